package pagetest

import (
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Scrape returns the page /metrics of h and what Prometheus's parser makes of it.
func Scrape(t *testing.T, h http.Handler) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	w := Get(t, h, "GET", "/metrics")
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

// Series returns the only one of name with the labels, which alternate with their values.
func Series(t *testing.T, fs map[string]*dto.MetricFamily, name string, labels ...string) *dto.Metric {
	t.Helper()
	var found []*dto.Metric
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
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s%v has %d series, want 1", name, labels, len(found))
	}
	return found[0]
}

// Value returns that of the only series of a gauge or counter with the labels, which alternate with their values.
func Value(t *testing.T, fs map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	m := Series(t, fs, name, labels...)
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

// CheckMetrics expects each metric to have a help and a type that fits its name, and each series to be there once.
func CheckMetrics(t *testing.T, text string, fs map[string]*dto.MetricFamily) {
	t.Helper()
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
