//go:build linux

package main

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

// TestSummary shows that the ratio is that of each round, not of the medians, and what a goal is about.
func TestSummary(t *testing.T) {
	picked := []step{{name: "s", measures: []measure{
		{"up", "throughput", "Mbit/s", goal{ratioFrom, 1}},
		{"mem", "memory", "MB", goal{ratioTo, 0.5}},
		{"start", "start", "s", goal{oursTo, 1}},
		{"free", "free", "1/s", goal{}},
		{"absent", "absent", "s", goal{}},
	}}}
	results := map[string]*stats.Pairs{
		"up":    {Ours: []float64{100, 400, 300}, Theirs: []float64{50, 400, 600}},
		"mem":   {Ours: []float64{30}, Theirs: []float64{50}},
		"start": {Ours: []float64{0.5, 0.7}, Theirs: []float64{0.1, 0.1}},
		"free":  {Ours: []float64{1}, Theirs: []float64{2}},
	}
	want := []line{
		{
			Key: "up", Name: "throughput", Unit: "Mbit/s", Ours: []float64{100, 400, 300}, Theirs: []float64{50, 400, 600},
			Ratios: []float64{2, 1, 0.5}, Ratio: 1, Goal: "ratio ≥ 1.00", Met: new(true),
		},
		{
			Key: "mem", Name: "memory", Unit: "MB", Ours: []float64{30}, Theirs: []float64{50},
			Ratios: []float64{0.6}, Ratio: 0.6, Goal: "ratio ≤ 0.50", Met: new(false),
		},
		{
			Key: "start", Name: "start", Unit: "s", Ours: []float64{0.5, 0.7}, Theirs: []float64{0.1, 0.1},
			Ratios: []float64{5, 7}, Ratio: 6, Goal: "ours ≤ 1 s", Met: new(true),
		},
		{
			Key: "free", Name: "free", Unit: "1/s", Ours: []float64{1}, Theirs: []float64{2}, Ratios: []float64{0.5}, Ratio: 0.5,
		},
	}
	close := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
	got := summarize(picked, results)
	if d := cmp.Diff(want, got, close); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"mem"}, unmet(got)); d != "" {
		t.Error(d)
	}
}
