package debug

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/rajsinghtech/tailgate/gateway/dataplane"
)

// scrape returns the page and what Prometheus's parser makes of it.
func scrape(t *testing.T, p *Pages) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	w := get(t, p.Public(), "GET", "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	if got := expfmt.ResponseFormat(w.Header()); got.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("content type %q is not the text format's", w.Header().Get("Content-Type"))
	}
	text := w.Body.String()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	fs, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return text, fs
}

// value returns that of the only series of name with the labels, which alternate with their values.
func value(t *testing.T, fs map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	var found []float64
	for _, m := range fs[name].GetMetric() {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && has[labels[i]] == labels[i+1]
		}
		if match {
			found = append(found, m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s%v has %d series, want 1", name, labels, len(found))
	}
	return found[0]
}

func TestMetrics(t *testing.T) {
	for _, tt := range []struct {
		name string
		node *fakeNode
		d    *fakePlane
	}{
		{"empty", emptyNode(), &fakePlane{}},
		{"busy", busyNode(), busyPlane()},
	} {
		text, _ := scrape(t, newPages(tt.node, tt.d))
		golden(t, tt.name+"-metrics.txt", text)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	n := busyNode()
	n.snapshot.ExitNode.Name = "odd \"name\" \\ with\nall \xff"
	text, fs := scrape(t, newPages(n, busyPlane()))
	if got, want := value(t, fs, "tailgate_gateway_member_receive_bytes_total", "member", "b\"\\\n"), float64(3<<40); got != want {
		t.Errorf("a member whose alias needs escaping: %v, want %v", got, want)
	}
	value(t, fs, "tailgate_gateway_exit_node_info", "name", "odd \"name\" \\ with\nall \uFFFD")
	for name, f := range fs {
		if f.GetHelp() == "" || f.GetType() == dto.MetricType_UNTYPED {
			t.Errorf("%s has no help or no type", name)
		}
		if strings.HasSuffix(name, "_total") != (f.GetType() == dto.MetricType_COUNTER) {
			t.Errorf("%s is a %v", name, f.GetType())
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		series, _, _ := strings.Cut(line, "} ")
		if seen[series] {
			t.Errorf("twice: %s", line)
		}
		seen[series] = true
	}
}

// What the gateway's end of a link receives, the member sent.
func TestMetricsDirections(t *testing.T) {
	_, fs := scrape(t, newPages(busyNode(), busyPlane()))
	for name, want := range map[string]float64{
		"receive_bytes": 2000, "receive_packets": 20, "transmit_bytes": 1000, "transmit_packets": 10,
	} {
		if got := value(t, fs, "tailgate_gateway_member_"+name+"_total", "link", "tg1", "member", "pod-a@4026532000"); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := value(t, fs, "tailgate_gateway_dropped_packets_total", "reason", "neighbour"); got != 5 {
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
	scrape(t, p)
	text, fs := scrape(t, p)
	for _, part := range []string{"counters", "engine"} {
		if got := value(t, fs, "tailgate_gateway_scrape_errors_total", "part", part); got != 2 {
			t.Errorf("errors of %s after two scrapes: %v", part, got)
		}
	}
	if fs["tailgate_gateway_dropped_packets_total"] != nil || strings.Contains(text, "not a metric") {
		t.Errorf("what could not be read is there:\n%s", text)
	}
	if got := value(t, fs, "tailgate_gateway_members"); got != 2 {
		t.Errorf("members, which could be read: %v", got)
	}

	d.counters = dataplane.Counters{}
	_, fs = scrape(t, p)
	for _, name := range []string{"members", "conntrack_entries", "conntrack_entries_max"} {
		if fs[prefix+name] != nil {
			t.Errorf("%s is there, though nobody knows it", name)
		}
	}
	d.countErr = nil
	_, fs = scrape(t, p)
	if got := value(t, fs, "tailgate_gateway_members"); got != 0 {
		t.Errorf("members of a gateway that has none: %v", got)
	}
}
