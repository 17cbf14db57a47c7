//go:build linux

package main

import (
	"math"
	"slices"
)

// quantile returns the value that a share q of xs is at or below (nearest rank); NaN of none.
func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	return s[min(max(int(math.Ceil(q*float64(len(s))))-1, 0), len(s)-1)]
}

// median returns the middle of xs, or the mean of the middle two; NaN of none.
func median(xs []float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(xs))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// pairs are the figures of one measure, by round; only rounds in which both sides gave one count.
type pairs struct {
	ours, theirs []float64
}

func (p *pairs) add(ours, theirs float64) {
	p.ours, p.theirs = append(p.ours, ours), append(p.theirs, theirs)
}

// ratios are ours by theirs, round by round: what disturbs the machine for a while disturbs both of a pair.
func (p *pairs) ratios() []float64 {
	var rs []float64
	for i := range p.ours {
		rs = append(rs, p.ours[i]/p.theirs[i])
	}
	return rs
}
