package debug

import (
	"fmt"
	"strings"
	"time"
)

// timeLayout is how pages show a time, which is in UTC.
const timeLayout = "2006-01-02 15:04:05 UTC"

// clock returns t as pages show it.
func clock(t time.Time) string { return t.UTC().Format(timeLayout) }

// moment returns t and how far it is from now; otherwise for the zero time.
func moment(now, t time.Time, otherwise string) string {
	if t.IsZero() {
		return otherwise
	}
	return clock(t) + " (" + age(now, t) + ")"
}

// age returns how long before now t was, as in "5 min ago", or in how long it will be; "" for the zero time.
func age(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	if d < 0 {
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// span returns d in the unit that leaves the fewest digits, rounded down.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// byteCount returns n with a binary unit, as in "1.2 MiB".
func byteCount(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < len(binaryUnits)-1 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, binaryUnits[unit])
}

const binaryUnits = "KMGTPE"

// joined returns the items with commas between them.
func joined(items []string) string { return strings.Join(items, ", ") }

// texts returns each value's text.
func texts[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

// lines splits text into its lines; never nil, so that JSON has a list.
func lines(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// lineDiff returns what turns have into want: lines to go begin with "-", lines to come with "+", in
// the order of the texts; "" when they are the same. It is quadratic, and made for tables of tens of lines.
func lineDiff(have, want string) string {
	a, b := lines(have), lines(want)
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}
