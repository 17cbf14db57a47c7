package debug

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rajsinghtech/tailgate/agent/server"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// Metrics are those that are counted as things happen. Make them with [NewMetrics]; their methods may be called by several
// goroutines.
type Metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	join     prometheus.Histogram

	mu     sync.Mutex
	joined map[string]time.Time // when each member joined that has been counted, by its ID
}

// NewMetrics returns metrics, registered with r unless that is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "cni_requests_total",
			Help: "Requests of the CNI plugin, by verb and by what came of them: ok, or the kind of the error.",
		}, []string{"verb", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "cni_request_seconds",
			Help: "Time that the agent took for a request of the CNI plugin, by verb, and by whether the pod is a member (ADD and CHECK only).",
			// A pod that is no member costs well below a millisecond; an ADD may wait for a gateway for seconds.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"verb", "member"}),
		join: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "join_seconds",
			Help: "Time from when a pod was to be a member until it was joined to its gateway. One that an earlier agent had joined does not count.",
			// From a join with the gateway at hand to one that waits for a new gateway's image and login.
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
		joined: map[string]time.Time{},
	}
	// A series that begins with its first error hides that error from rate().
	for _, verb := range verbs {
		for _, outcome := range outcomes {
			m.requests.WithLabelValues(string(verb), outcome)
		}
	}
	if r != nil {
		r.MustRegister(m.requests, m.took, m.join)
	}
	return m
}

var (
	verbs    = []cnirpc.Verb{cnirpc.Add, cnirpc.Del, cnirpc.Check, cnirpc.GC, cnirpc.Status}
	outcomes = []string{
		"ok", string(cnirpc.Invalid), string(cnirpc.Unavailable), string(cnirpc.TryAgain), string(cnirpc.Missing), string(cnirpc.Internal),
	}
)

// Request counts a request of the CNI plugin. It is what server.Options take.
func (m *Metrics) Request(o server.Observation) {
	m.requests.WithLabelValues(o.Verb, o.Outcome).Inc()
	m.took.WithLabelValues(o.Verb, strconv.FormatBool(o.Member)).Observe(o.Took.Seconds())
}

// Joined counts how long a member took to join. It is to get every new status of every member, as stitch.Options take: it tells
// one join from the next by their times, and forgets a member that has left.
func (m *Metrics) Joined(s stitch.Status) {
	m.mu.Lock()
	counted := m.joined[s.ID].Equal(s.Joined)
	switch {
	case s.State == stitch.Left:
		delete(m.joined, s.ID)
	case !s.Joined.IsZero():
		m.joined[s.ID] = s.Joined
	}
	m.mu.Unlock()
	if took := s.Took(); took > 0 && !counted {
		m.join.Observe(took.Seconds())
	}
}
