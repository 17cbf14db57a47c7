package debug

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
)

func TestMetrics(t *testing.T) {
	for _, tt := range []struct {
		name string
		node *fakeNode
		d    *fakePlane
	}{
		{"empty", emptyNode(), &fakePlane{}},
		{"busy", busyNode(), busyPlane()},
	} {
		text, _ := pagetest.Scrape(t, newPages(tt.node, tt.d).Public())
		pagetest.Golden(t, tt.name+"-metrics.txt", text)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	n := busyNode()
	n.snapshot.ExitNode.Name = "odd \"name\" \\ with\nall \xff"
	text, fs := pagetest.Scrape(t, newPages(n, busyPlane()).Public())
	if got, want := pagetest.Value(t, fs, "tailgate_gateway_member_receive_bytes_total", "member", "b\"\\\n"), float64(3<<40); got != want {
		t.Errorf("a member whose alias needs escaping: %v, want %v", got, want)
	}
	pagetest.Value(t, fs, "tailgate_gateway_exit_node_info", "name", "odd \"name\" \\ with\nall \uFFFD")
	pagetest.CheckMetrics(t, text, fs)
}

// What the gateway's end of a link receives, the member sent.
func TestMetricsDirections(t *testing.T) {
	_, fs := pagetest.Scrape(t, newPages(busyNode(), busyPlane()).Public())
	for name, want := range map[string]float64{
		"receive_bytes": 2000, "receive_packets": 20, "transmit_bytes": 1000, "transmit_packets": 10,
	} {
		if got := pagetest.Value(t, fs, "tailgate_gateway_member_"+name+"_total", "link", "tg1", "member", "pod-a@4026532000"); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := pagetest.Value(t, fs, "tailgate_gateway_dropped_packets_total", "reason", "neighbour"); got != 5 {
		t.Errorf("drops of two chains for one reason: %v, want 5", got)
	}
}

func TestMetricsWithoutAPart(t *testing.T) {
	d := busyPlane()
	d.countErr = errors.New("look at nftables: permission denied")
	d.counters.Dropped = nil
	n := busyNode()
	n.metrics = func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not a metric", http.StatusInternalServerError)
	}
	p := newPages(n, d)
	pagetest.Scrape(t, p.Public())
	text, fs := pagetest.Scrape(t, p.Public())
	for _, part := range []string{"counters", "engine"} {
		if got := pagetest.Value(t, fs, "tailgate_gateway_scrape_errors_total", "part", part); got != 2 {
			t.Errorf("errors of %s after two scrapes: %v", part, got)
		}
	}
	if fs["tailgate_gateway_dropped_packets_total"] != nil || strings.Contains(text, "not a metric") {
		t.Errorf("what could not be read is there:\n%s", text)
	}
	if got := pagetest.Value(t, fs, "tailgate_gateway_members"); got != 2 {
		t.Errorf("members, which could be read: %v", got)
	}

	d.counters = dataplane.Counters{}
	_, fs = pagetest.Scrape(t, p.Public())
	for _, name := range []string{"members", "conntrack_entries", "conntrack_entries_max"} {
		if fs[prefix+name] != nil {
			t.Errorf("%s is there, though nobody knows it", name)
		}
	}
	d.countErr = nil
	_, fs = pagetest.Scrape(t, p.Public())
	if got := pagetest.Value(t, fs, "tailgate_gateway_members"); got != 0 {
		t.Errorf("members of a gateway that has none: %v", got)
	}
}
