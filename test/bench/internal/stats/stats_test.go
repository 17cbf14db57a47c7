package stats

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
			got := [2]float64{Median(tc.xs), Quantile(tc.xs, 0.99)}
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
	if got := Quantile(hundred, 0.99); got != 198 {
		t.Errorf("the 99th percentile of 1 to 200 is %v, want 198", got)
	}
}

func TestFigure(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.0456: "0.0456", 0.5: "0.500", 1: "1.00", 12.345: "12.3", 123.4: "123", 15178: "15178"} {
		if got := Figure(x); got != want {
			t.Errorf("%v is written %s, want %s", x, got, want)
		}
	}
}

func TestPairs(t *testing.T) {
	var p Pairs
	p.Add(3, 2)
	p.Add(5, 10)
	if d := cmp.Diff([]float64{1.5, 0.5}, p.Ratios()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{1, -5}, p.Differences()); d != "" {
		t.Error(d)
	}
}
