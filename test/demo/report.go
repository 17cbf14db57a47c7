//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// line says what a check is about.
type line struct {
	from, to, proto string
	// family is 4, 6, or 0 for both or neither.
	family int
	// what is said of it, a few words.
	what string
}

// report prints checks and counts them.
type report struct {
	out            io.Writer
	passed, failed int
}

const columns = "  %-13s %-13s %-8s %-6s %-6s %8s  %s\n"

func newReport(out io.Writer) *report { return &report{out: out} }

func (r *report) heading(g group) {
	fmt.Fprintf(r.out, "\n%s: %s\n", g.title, g.says)
	fmt.Fprintf(r.out, columns, "FROM", "TO", "PROTOCOL", "FAMILY", "RESULT", "TIME", "WHAT")
}

func (r *report) print(l line, took time.Duration, note string, err error) {
	family := map[int]string{4: "v4", 6: "v6", 0: "-"}[l.family]
	result := "ok"
	if err != nil {
		result = "FAILED"
		r.failed++
	} else {
		r.passed++
	}
	what := l.what
	if note != "" {
		if what != "" {
			what += ": "
		}
		what += note
	}
	fmt.Fprintf(r.out, columns, l.from, l.to, l.proto, family, result, short(took), what)
	if err != nil {
		fmt.Fprintf(r.out, "      %s\n", strings.ReplaceAll(err.Error(), "\n", "\n      "))
	}
}

// short rounds a time to what fits the column.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// check runs one check within a time limit and prints it. f returns what is worth saying. It reports
// whether the check passed.
func (r *report) check(ctx context.Context, l line, limit time.Duration, f func(context.Context) (note string, err error)) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	note, err := f(ctx)
	r.print(l, time.Since(start), note, err)
	return err == nil
}
