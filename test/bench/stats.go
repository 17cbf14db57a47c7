//go:build linux

package main

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
