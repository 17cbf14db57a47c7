package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// Metrics are the operator's own; controller-runtime adds those of queues and of the Kubernetes API.
type Metrics struct {
	config  prometheus.Histogram
	api     *prometheus.HistogramVec
	writes  *prometheus.CounterVec
	minted  *prometheus.CounterVec
	revoked prometheus.Counter
	devices *prometheus.CounterVec
	events  *prometheus.CounterVec
}

// NewMetrics returns metrics, registered with r unless that is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tailgate", Subsystem: "operator", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		config: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "tailgate", Subsystem: "operator", Name: "config_applied_seconds",
			Help:    "Time from a change of a group's configuration until all of its gateways report it.",
			Buckets: prometheus.ExponentialBuckets(0.1, 2, 13), // to some 7 minutes
		}),
		api: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "tailgate", Subsystem: "operator", Name: "tailnet_request_seconds",
			Help:    "Duration of requests to the tailnet's API, by what for and, if they failed, the reason.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2.5, 8), // to some 30 seconds
		}, []string{"op", "reason"}),
		writes:  counter("applied_total", "Objects written by server-side apply.", "kind"),
		minted:  counter("auth_keys_minted_total", "Auth keys minted, by the reason for it.", "reason"),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tailgate", Subsystem: "operator", Name: "auth_keys_revoked_total", Help: "Auth keys revoked."}),
		devices: counter("devices_total", "Devices that were dealt with in the tailnet, by what was done.", "reason"),
		events:  counter("events_total", "Events recorded, by their reason.", "reason"),
	}
	if r != nil {
		r.MustRegister(m.config, m.api, m.writes, m.minted, m.revoked, m.devices, m.events)
	}
	return m
}

// Observe counts a request to the tailnet's API; it is what tailnet.Options take.
func (m *Metrics) Observe(r tailnet.Request) {
	m.api.WithLabelValues(r.Op, string(r.Reason)).Observe(r.Duration.Seconds())
}

func (m *Metrics) applied(kind string)              { m.writes.WithLabelValues(kind).Inc() }
func (m *Metrics) keyMinted(reason string)          { m.minted.WithLabelValues(reason).Inc() }
func (m *Metrics) keyRevoked()                      { m.revoked.Inc() }
func (m *Metrics) device(reason string)             { m.devices.WithLabelValues(reason).Inc() }
func (m *Metrics) event(reason string)              { m.events.WithLabelValues(reason).Inc() }
func (m *Metrics) configApplied(took time.Duration) { m.config.Observe(took.Seconds()) }
