// Package sheet is how a bench that has one side reports: figures, each beside its goal.
// It promises that a goal decides nothing: it says only whether the figure beside it reaches it.
package sheet

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

// Goal is what a figure should come to. The zero value is that of figures that are only told.
type Goal struct {
	text string
	met  func(float64) bool
}

// AtMost is reached by n and what is less.
func AtMost(n float64) Goal {
	return Goal{text: fmt.Sprintf("≤ %g", n), met: func(x float64) bool { return x <= n }}
}

// Below is reached by what is less than n.
func Below(n float64) Goal {
	return Goal{text: fmt.Sprintf("< %g", n), met: func(x float64) bool { return x < n }}
}

// AtLeast is reached by n and what is more.
func AtLeast(n float64) Goal {
	return Goal{text: fmt.Sprintf("≥ %g", n), met: func(x float64) bool { return x >= n }}
}

// Line is one figure.
type Line struct {
	Key   string  `json:"key"`
	Name  string  `json:"name"`
	Unit  string  `json:"unit,omitempty"`
	Value float64 `json:"value"`
	Goal  string  `json:"goal,omitempty"`
	// Met is absent without a goal.
	Met *bool `json:"met,omitempty"`
	// Raw is what Value was made of, if it was more than itself.
	Raw []float64 `json:"raw,omitempty"`
}

// NewLine returns a line.
func NewLine(key, name, unit string, value float64, g Goal) Line {
	l := Line{Key: key, Name: name, Unit: unit, Value: value, Goal: g.text}
	if g.met != nil {
		l.Met = new(g.met(value))
	}
	return l
}

// Unmet names the figures whose goal is not reached.
func Unmet(lines []Line) []string {
	var keys []string
	for _, l := range lines {
		if l.Met != nil && !*l.Met {
			keys = append(keys, l.Key)
		}
	}
	return keys
}

// Print prints a table.
func Print(out io.Writer, lines []Line) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURE\tVALUE\tUNIT\tGOAL\tMET")
	for _, l := range lines {
		met := ""
		if l.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*l.Met]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Name, number(l), l.Unit, l.Goal, met)
	}
	_ = w.Flush()
}

// number writes a count as it is, and what has a unit with three digits.
func number(l Line) string {
	if l.Unit == "" && l.Value == float64(int64(l.Value)) {
		return fmt.Sprintf("%.0f", l.Value)
	}
	return stats.Figure(l.Value)
}
