package debug

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Kinds of metric, as the text format calls them.
const (
	gauge   = "gauge"
	counter = "counter"
)

// family is a metric and its samples.
type family struct {
	name, kind, help string // the name without prefix
	samples          []sample
}

// sample is one value. A series is known by its labels.
type sample struct {
	labels []label
	value  float64
}

type label struct{ name, value string }

// prefix begins the name of every metric of ours.
const prefix = "tailgate_gateway_"

// one returns the sample of a metric without labels.
func one[N int | uint64 | float64](v N) []sample { return []sample{{value: float64(v)}} }

// oneIf is 1 for true.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// writeFamilies writes the families in Prometheus's text format, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats), by name, and each one's samples by labels. A family
// without samples is left out.
func writeFamilies(w io.Writer, fs []family) error {
	fs = slices.SortedFunc(slices.Values(fs), func(a, b family) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	for _, f := range fs {
		if len(f.samples) == 0 {
			continue
		}
		name := prefix + f.name
		b.WriteString("# HELP " + name + " " + escapeHelp.Replace(f.help) + "\n")
		b.WriteString("# TYPE " + name + " " + f.kind + "\n")
		series := make([]string, len(f.samples))
		for i, s := range f.samples {
			series[i] = name + labelText(s.labels) + " " + strconv.FormatFloat(s.value, 'f', -1, 64) + "\n"
		}
		slices.Sort(series)
		for _, s := range series {
			b.WriteString(s)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func labelText(labels []label) string {
	if len(labels) == 0 {
		return ""
	}
	pairs := make([]string, len(labels))
	for i, l := range labels {
		pairs[i] = l.name + `="` + escapeLabel.Replace(strings.ToValidUTF8(l.value, "\uFFFD")) + `"`
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
