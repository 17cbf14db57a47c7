package report

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Column is one that a report has before the result, in characters.
type Column struct {
	Name  string
	Width int
}

// Line says what a check is about.
type Line struct {
	// Cells are what stands in the report's columns.
	Cells []string
	// What is said of it, a few words.
	What string
}

// Report prints checks and counts them.
type Report struct {
	// Passed and Failed are the counts so far.
	Passed, Failed int

	out     io.Writer
	columns []Column
	failed  strings.Builder // what was printed of them
}

// New makes a report with these columns beside the result, the time and what is said.
func New(out io.Writer, columns ...Column) *Report { return &Report{out: out, columns: columns} }

// row is one line under the columns.
func (r *Report) row(cells []string, result, took, what string) string {
	var b strings.Builder
	b.WriteString("  ")
	for i, c := range r.columns {
		cell := ""
		if i < len(cells) {
			cell = cells[i]
		}
		fmt.Fprintf(&b, "%-*s ", c.Width, cell)
	}
	fmt.Fprintf(&b, "%-6s %8s  %s\n", result, took, what)
	return b.String()
}

// Heading begins a group of checks.
func (r *Report) Heading(title, says string) {
	fmt.Fprintf(r.out, "\n%s: %s\n", title, says)
	if len(r.columns) == 0 {
		return
	}
	var names []string
	for _, c := range r.columns {
		names = append(names, c.Name)
	}
	fmt.Fprint(r.out, r.row(names, "RESULT", "TIME", "WHAT"))
}

// Print prints what came of a check, and counts it.
func (r *Report) Print(l Line, took time.Duration, note string, err error) {
	result := "ok"
	if err != nil {
		result = "FAILED"
		r.Failed++
	} else {
		r.Passed++
	}
	what := l.What
	if note != "" {
		if what != "" {
			what += ": "
		}
		what += note
	}
	text := r.row(l.Cells, result, Short(took), what)
	if err != nil {
		text += fmt.Sprintf("      %s\n", strings.ReplaceAll(err.Error(), "\n", "\n      "))
		r.failed.WriteString(text)
	}
	fmt.Fprint(r.out, text)
}

// Check runs one check within a time limit and prints it. f returns what is worth saying. It reports
// whether the check passed.
func (r *Report) Check(ctx context.Context, l Line, limit time.Duration, f func(context.Context) (note string, err error)) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	note, err := f(ctx)
	r.Print(l, time.Since(start), note, err)
	return err == nil
}

// End prints what failed once more, since much may have come after it, and the last line. It reports whether all checks passed.
func (r *Report) End(start time.Time) bool {
	if r.Failed > 0 {
		fmt.Fprintf(r.out, "\nFailed:\n%s", r.failed.String())
	}
	fmt.Fprintf(r.out, "\nTook %v.\n%d passed, %d failed\n", time.Since(start).Round(time.Second), r.Passed, r.Failed)
	return r.Failed == 0
}

// Short rounds a time to what fits the column.
func Short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
