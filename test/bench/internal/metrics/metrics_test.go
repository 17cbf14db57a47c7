//go:build linux

package metrics

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

const exposition = `# TYPE members gauge
members{group="a",state="joined"} 2
members{group="a",state="waiting"} 1
members{group="b",state="joined"} 4
# TYPE join_seconds histogram
join_seconds_bucket{le="0.1"} 3
join_seconds_bucket{le="+Inf"} 5
join_seconds_sum 1.5
join_seconds_count 5
`

func TestScrape(t *testing.T) {
	pages := http.NewServeMux()
	pages.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(exposition)) })
	pages.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{ no metrics")) })
	srv := httptest.NewServer(pages)
	defer srv.Close()
	m, err := Scrape(t.Context(), srv.Client(), srv.URL+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"members", nil, 7},
		{"members", []string{"group", "a"}, 3},
		{"members", []string{"group", "a", "state", "joined"}, 2},
		{"members", []string{"group", "c"}, 0},
		{"join_seconds", nil, 5},
		{"absent", nil, 0},
	} {
		if got := m.Sum(tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s %v is %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	for _, page := range []string{"/bad", "/none"} {
		if _, err := Scrape(t.Context(), srv.Client(), srv.URL+page); err == nil {
			t.Errorf("%s was taken for metrics", page)
		}
	}
}
