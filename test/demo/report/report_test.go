package report

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	var out strings.Builder
	r := New(&out, Column{Name: "FROM", Width: 6}, Column{Name: "TO", Width: 4})
	r.Heading("Reach", "all is reached.")
	r.Print(Line{Cells: []string{"member", "peer"}, What: "by name"}, 1234*time.Microsecond, "", nil)
	r.Print(Line{Cells: []string{"member"}}, 12345*time.Microsecond, "a note", nil)
	r.Print(Line{What: "both"}, 1234567*time.Microsecond, "of them", errors.New("two\nlines"))
	want := `
Reach: all is reached.
  FROM   TO   RESULT     TIME  WHAT
  member peer ok       1.23ms  by name
  member      ok         12ms  a note
              FAILED    1.23s  both: of them
      two
      lines
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	out.Reset()
	if r.End(time.Now()) {
		t.Error("a report with a failed check says that all passed")
	}
	want = `
Failed:
              FAILED    1.23s  both: of them
      two
      lines

Took 0s.
2 passed, 1 failed
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("printed at the end (-want +got):\n%s", diff)
	}
}

func TestReportWithoutColumns(t *testing.T) {
	var out strings.Builder
	r := New(&out)
	r.Heading("Reach", "all is reached.")
	r.Print(Line{What: "by name"}, time.Millisecond, "", nil)
	if diff := cmp.Diff("\nReach: all is reached.\n  ok          1ms  by name\n", out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	if !r.End(time.Now()) {
		t.Error("a report without a failed check says that one failed")
	}
}

func TestCheck(t *testing.T) {
	r := New(new(strings.Builder))
	if !r.Check(t.Context(), Line{}, time.Minute, func(ctx context.Context) (string, error) { return "", ctx.Err() }) {
		t.Error("a check that passed is said to have failed")
	}
	if r.Check(t.Context(), Line{}, time.Nanosecond, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }) {
		t.Error("a check that took too long is said to have passed")
	}
	if r.Passed != 1 || r.Failed != 1 {
		t.Errorf("%d passed and %d failed, not 1 and 1", r.Passed, r.Failed)
	}
}
