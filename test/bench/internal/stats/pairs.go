package stats

// Pairs are the figures of one measure, by round; only rounds in which both sides gave one count.
type Pairs struct {
	Ours, Theirs []float64
}

// Add adds a round.
func (p *Pairs) Add(ours, theirs float64) {
	p.Ours, p.Theirs = append(p.Ours, ours), append(p.Theirs, theirs)
}

// Ratios are ours by theirs, round by round: what disturbs the machine for a while disturbs both of a pair.
func (p *Pairs) Ratios() []float64 {
	var rs []float64
	for i := range p.Ours {
		rs = append(rs, p.Ours[i]/p.Theirs[i])
	}
	return rs
}

// Differences are ours less theirs, round by round.
func (p *Pairs) Differences() []float64 {
	var ds []float64
	for i := range p.Ours {
		ds = append(ds, p.Ours[i]-p.Theirs[i])
	}
	return ds
}
