package page

import (
	"fmt"
	"strings"
	"time"
)

// timeLayout is how pages show a time, which is in UTC.
const timeLayout = "2006-01-02 15:04:05 UTC"

// Clock returns t as pages show it.
func Clock(t time.Time) string { return t.UTC().Format(timeLayout) }

// Moment returns t and how far it is from now; otherwise for the zero time.
func Moment(now, t time.Time, otherwise string) string {
	if t.IsZero() {
		return otherwise
	}
	return Clock(t) + " (" + Age(now, t) + ")"
}

// Age returns how long before now t was, as in "5 min ago", or in how long it will be; "" for the zero time.
func Age(now, t time.Time) string {
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

// ByteCount returns n with a binary unit, as in "1.2 MiB".
func ByteCount(n uint64) string {
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

// Commas returns the items with commas between them.
func Commas(items []string) string { return strings.Join(items, ", ") }

// OneLine returns s without line breaks, each run of white space being one space.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Texts returns each value's text; never nil, so that JSON has a list.
func Texts[T fmt.Stringer](values []T) []string { return Each(values, T.String) }

// Each returns what f makes of every value; never nil, so that JSON has a list.
func Each[A, B any](values []A, f func(A) B) []B {
	out := make([]B, len(values))
	for i, v := range values {
		out[i] = f(v)
	}
	return out
}
