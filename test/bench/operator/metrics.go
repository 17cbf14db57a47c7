//go:build linux

package main

import (
	"net/http"

	"github.com/rajsinghtech/tailgate/test/bench/internal/metrics"
)

// Names of metrics that are read.
const (
	metricRequests   = "rest_client_requests_total"
	metricReconciles = "controller_runtime_reconcile_total"
	metricErrors     = "controller_runtime_reconcile_errors_total"
	metricActive     = "controller_runtime_active_workers"
	metricDepth      = "workqueue_depth"
	metricTailnet    = "tailgate_operator_tailnet_request_seconds"
	metricHeap       = "go_memstats_heap_alloc_bytes"
)

// busy reports whether there is anything under way or waiting.
func busy(m metrics.Set) bool { return m.Sum(metricDepth) > 0 || m.Sum(metricActive) > 0 }

// beat changes whenever something was done; the lease is not.
func beat(m metrics.Set) float64 {
	return m.Sum(metricReconciles) + m.Sum(metricRequests) - m.Sum(metricRequests, "method", http.MethodPut)
}
