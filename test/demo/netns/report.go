//go:build linux

package main

import (
	"context"
	"time"

	"github.com/rajsinghtech/tailgate/test/demo/report"
)

// line says what a check is about.
type line struct {
	from, to, proto string
	// family is 4, 6, or 0 for both or neither.
	family int
	// what is said of it, a few words.
	what string
}

// columns are where its fields stand.
func columns() []report.Column {
	return []report.Column{{Name: "FROM", Width: 13}, {Name: "TO", Width: 13}, {Name: "PROTOCOL", Width: 8}, {Name: "FAMILY", Width: 6}}
}

func (l line) row() report.Line {
	family := map[int]string{4: "v4", 6: "v6", 0: "-"}[l.family]
	return report.Line{Cells: []string{l.from, l.to, l.proto, family}, What: l.what}
}

func (d *demo) print(l line, err error) {
	d.Print(l.row(), 0, "", err)
}

func (d *demo) check(ctx context.Context, l line, limit time.Duration, f func(context.Context) (note string, err error)) bool {
	return d.Check(ctx, l.row(), limit, f)
}

func short(d time.Duration) string { return report.Short(d) }
