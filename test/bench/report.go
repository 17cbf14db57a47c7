//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

// method is what a reader of the figures has to know.
const method = `Method: tailgate-gateway (ours) and an official tailscaled (theirs), both stripped and of one version of the engine,
are gateways of one tailnet on this machine, each in a network namespace of its own with one member behind the
same kind of veth; a third namespace holds the peer that both talk to. Both masquerade, and forward at an MTU of
1280. Each step runs with one, then with the other; every second round begins with the other one. TCP moves a fixed number
of bytes, the same for both and in all rounds. All ends share this machine's CPUs, the peer's engine among them, which
draws every ratio of throughput, and of the whole machine's CPU, towards 1. The ratio is ours by theirs, its median over
the rounds, and its least and greatest value.`

// line is one measure's result.
type line struct {
	Key    string    `json:"key"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Ours   []float64 `json:"ours"`
	Theirs []float64 `json:"theirs"`
	// Ratios are ours by theirs, by round; Ratio is their median.
	Ratios []float64 `json:"ratios"`
	Ratio  float64   `json:"ratio"`
	Goal   string    `json:"goal,omitempty"`
	// Met is absent without a goal.
	Met *bool `json:"met,omitempty"`
}

// summarize makes the lines of the measures that have figures.
func summarize(picked []step, results map[string]*stats.Pairs) []line {
	var lines []line
	for _, st := range picked {
		for _, m := range st.measures {
			p := results[m.key]
			if p == nil {
				continue
			}
			l := line{
				Key: m.key, Name: m.name, Unit: m.unit, Ours: p.Ours, Theirs: p.Theirs,
				Ratios: p.Ratios(), Ratio: stats.Median(p.Ratios()), Goal: m.goal.text(m.unit),
			}
			if m.goal.of != noGoal {
				l.Met = new(m.goal.met(l.Ratio, stats.Median(p.Ours)))
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// unmet names the measures whose goal is not reached.
func unmet(lines []line) []string {
	var keys []string
	for _, l := range lines {
		if l.Met != nil && !*l.Met {
			keys = append(keys, l.Key)
		}
	}
	return keys
}

// printTable prints the medians.
func printTable(out io.Writer, lines []line) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tUNIT\tOURS\tTHEIRS\tRATIO [LEAST TO GREATEST]\tGOAL\tMET")
	for _, l := range lines {
		met := ""
		if l.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*l.Met]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f [%.2f to %.2f]\t%s\t%s\n", l.Name, l.Unit, stats.Figure(stats.Median(l.Ours)), stats.Figure(stats.Median(l.Theirs)),
			l.Ratio, slices.Min(l.Ratios), slices.Max(l.Ratios), l.Goal, met)
	}
	_ = w.Flush()
}

// report prints what was measured and, if asked for, writes the raw figures.
func (b *bench) report(picked []step) ([]line, error) {
	lines := summarize(picked, b.results)
	fmt.Fprintf(b.out, "\n%s\n\nMachine: %v. Rounds: %d.\n\n", method, b.machine, b.s.rounds)
	printTable(b.out, lines)
	for _, f := range b.failed {
		fmt.Fprintln(b.out, "left out:", f)
	}
	if b.s.json == "" {
		return lines, nil
	}
	raw, err := json.MarshalIndent(struct {
		Machine  proc.Machine     `json:"machine"`
		Rounds   int              `json:"rounds"`
		Bytes    map[string]int64 `json:"bytes"`
		Rate     int              `json:"datagramsOffered"`
		Failed   []string         `json:"failed,omitempty"`
		Measures []line           `json:"measures"`
	}{b.machine, b.s.rounds, b.bytes, b.rate, b.failed, lines}, "", "  ")
	if err == nil {
		err = os.WriteFile(b.s.json, append(raw, '\n'), 0o644)
	}
	if err != nil {
		return lines, fmt.Errorf("write raw figures: %w", err)
	}
	return lines, nil
}
