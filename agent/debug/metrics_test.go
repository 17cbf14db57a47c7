package debug

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/server"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
)

// ours are the lines about our metrics.
func ours(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, prefix) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// observe is what a busy agent counts.
func observe(m *Metrics) {
	m.Request(server.Observation{Verb: "ADD", Outcome: "ok", Member: true, Took: 30 * time.Millisecond})
	m.Request(server.Observation{Verb: "ADD", Outcome: "ok", Took: 300 * time.Microsecond})
	m.Request(server.Observation{Verb: "ADD", Outcome: "try-again", Took: 5 * time.Second})
	m.Request(server.Observation{Verb: "unknown", Outcome: "unsupported", Took: time.Microsecond})
	for _, s := range busyReport().Members {
		m.Joined(s)
	}
}

func TestMetrics(t *testing.T) {
	for name, source := range map[string]*fakeSource{"empty": emptySource(), "busy": busySource()} {
		p := newPages(source)
		if m := NewMetrics(p.o.Registry); name == "busy" {
			observe(m)
		}
		text, fs := pagetest.Scrape(t, p.Public())
		pagetest.CheckMetrics(t, text, fs)
		pagetest.Golden(t, name+"-metrics.txt", ours(text))
		if problems, err := testutil.GatherAndLint(p.o.Registry); err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %v", name, problems, err)
		}
	}
}

// A series that only begins with what it counts hides its first from rate().
func TestCountsBeginAtZero(t *testing.T) {
	p := newPages(emptySource())
	NewMetrics(p.o.Registry)
	_, fs := pagetest.Scrape(t, p.Public())
	for _, series := range [][]string{
		{"repairs_total", "kind", "route"}, {"cni_requests_total", "verb", "ADD", "outcome", "try-again"}, {"install_patches_total"},
	} {
		if got := pagetest.Value(t, fs, prefix+series[0], series[1:]...); got != 0 {
			t.Errorf("%v: %v", series, got)
		}
	}
}

// A group's series end with it, and never outnumber what is on the node.
func TestSeriesEndWithTheirGroup(t *testing.T) {
	s := busySource()
	p := newPages(s)
	groups := func() []string {
		_, fs := pagetest.Scrape(t, p.Public())
		seen := map[string]bool{}
		for _, f := range fs {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "group" {
						seen[l.GetValue()] = true
					}
				}
			}
		}
		return slices.Sorted(maps.Keys(seen))
	}
	if got := groups(); !slices.Equal(got, []string{"", "new", "old", "payments", "peers"}) {
		t.Errorf("groups: %q", got)
	}
	s.report, s.gateways = stitch.Report{}, nil
	if got := groups(); len(got) > 0 {
		t.Errorf("groups of a node without any: %q", got)
	}
}

func TestOddNamesInMetrics(t *testing.T) {
	s := busySource()
	s.report.Groups[1].Name = "odd \"name\" \\ with\nall \xff"
	s.install = install.Status{State: install.Unready, Reason: "\xfe"}
	_, fs := pagetest.Scrape(t, newPages(s).Public())
	pagetest.Value(t, fs, prefix+"members", "group", "odd \"name\" \\ with\nall \uFFFD", "state", "joined")
	pagetest.Value(t, fs, prefix+"install_info", "state", "Unready", "reason", "\uFFFD")
}

func TestJoined(t *testing.T) {
	r := prometheus.NewRegistry()
	m := NewMetrics(r)
	check := func(what string, count uint64, sum float64) {
		t.Helper()
		if problem := histogram(t, r, count, sum); problem != "" {
			t.Errorf("%s: %s", what, problem)
		}
	}
	asked := fixedNow
	s := stitch.Status{ID: "a", Group: "g", State: stitch.Waiting, Asked: asked}
	m.Joined(s)
	check("a member that waits", 0, 0)
	s.State, s.Joined = stitch.Joined, asked.Add(time.Second)
	m.Joined(s)
	check("one that joined", 1, 1)
	s.Ready = true
	m.Joined(s)
	s.State, s.Message = stitch.Failed, "drifted"
	m.Joined(s)
	s.State, s.Message = stitch.Joined, ""
	m.Joined(s)
	check("what came after its join", 1, 1)
	m.Joined(stitch.Status{ID: "b", Group: "g", State: stitch.Joined, Asked: asked, Joined: asked.Add(time.Hour), Found: true})
	check("one that was found joined", 1, 1)
	// Another group: a join of its own.
	s.State, s.Joined, s.Asked = stitch.Waiting, time.Time{}, asked.Add(time.Minute)
	m.Joined(s)
	s.State, s.Joined = stitch.Joined, s.Asked.Add(2*time.Second)
	m.Joined(s)
	check("one that joined again", 2, 3)
	m.Joined(stitch.Status{ID: "a", State: stitch.Left})
	m.Joined(stitch.Status{ID: "b", State: stitch.Left})
	check("those that left", 2, 3)
	if len(m.joined) > 0 {
		t.Errorf("members that left are remembered: %v", m.joined)
	}
}

// histogram compares join_seconds.
func histogram(t *testing.T, r prometheus.Gatherer, count uint64, sum float64) (problem string) {
	t.Helper()
	fs, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		if f.GetName() == prefix+"join_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			if h.GetSampleCount() != count || h.GetSampleSum() != sum {
				return h.String()
			}
			return ""
		}
	}
	return "there is none"
}

// Everything at once, for the race detector.
func TestConcurrency(t *testing.T) {
	p := newPages(busySource())
	m := NewMetrics(p.o.Registry)
	h := p.Debug()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { observe(m) })
		for _, url := range []string{"/debug/", "/debug/members", "/debug/groups.json", "/debug/member?id=" + uidDrifted, "/metrics", "/healthz", "/readyz"} {
			wg.Go(func() { get(t, h, url) })
		}
	}
	wg.Wait()
}
