//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
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

// metrics are what a process exports, at one moment.
type metrics map[string]*dto.MetricFamily

// parseMetrics reads the text format.
func parseMetrics(text io.Reader) (metrics, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return families, nil
}

// scrape reads the metrics at a URL.
func scrape(ctx context.Context, url string) (_ metrics, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Else the client asks for compression, which the process would spend memory on.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics: %s says %s", url, resp.Status)
	}
	return parseMetrics(resp.Body)
}

// sum adds up the metrics of a name that have all these labels, given as name, value, name, value. Of a histogram
// it is the number of observations. What is not there is 0.
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for _, metric := range m[name].GetMetric() {
		if !has(metric, labels) {
			continue
		}
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue() +
			float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

func has(metric *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range metric.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// busy reports whether there is anything under way or waiting.
func (m metrics) busy() bool { return m.sum(metricDepth) > 0 || m.sum(metricActive) > 0 }

// beat changes whenever something was done; the lease is not.
func (m metrics) beat() float64 {
	return m.sum(metricReconciles) + m.sum(metricRequests) - m.sum(metricRequests, "method", http.MethodPut)
}
