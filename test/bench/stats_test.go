//go:build linux

package main

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStatistics(t *testing.T) {
	for _, tc := range []struct {
		name        string
		xs          []float64
		median, p99 float64
	}{
		{"none", nil, math.NaN(), math.NaN()},
		{"one", []float64{3}, 3, 3},
		{"even", []float64{4, 1, 3, 2}, 2.5, 4},
		{"odd", []float64{9, 1, 5}, 5, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := [2]float64{median(tc.xs), quantile(tc.xs, 0.99)}
			same := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
			if d := cmp.Diff([2]float64{tc.median, tc.p99}, got, same); d != "" {
				t.Error(d)
			}
		})
	}
	hundred := make([]float64, 200)
	for i := range hundred {
		hundred[i] = float64(200 - i)
	}
	if got := quantile(hundred, 0.99); got != 198 {
		t.Errorf("the 99th percentile of 1 to 200 is %v, want 198", got)
	}
}

// TestSummary shows that the ratio is that of each round, not of the medians, and what a goal is about.
func TestSummary(t *testing.T) {
	picked := []step{{name: "s", measures: []measure{
		{"up", "throughput", "Mbit/s", goal{ratioFrom, 1}},
		{"mem", "memory", "MB", goal{ratioTo, 0.5}},
		{"start", "start", "s", goal{oursTo, 1}},
		{"free", "free", "1/s", goal{}},
		{"absent", "absent", "s", goal{}},
	}}}
	results := map[string]*pairs{
		"up":    {ours: []float64{100, 400, 300}, theirs: []float64{50, 400, 600}},
		"mem":   {ours: []float64{30}, theirs: []float64{50}},
		"start": {ours: []float64{0.5, 0.7}, theirs: []float64{0.1, 0.1}},
		"free":  {ours: []float64{1}, theirs: []float64{2}},
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

func TestFigure(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.0456: "0.0456", 0.5: "0.500", 1: "1.00", 12.345: "12.3", 123.4: "123", 15178: "15178"} {
		if got := figure(x); got != want {
			t.Errorf("%v is written %s, want %s", x, got, want)
		}
	}
}
