package debug

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rajsinghtech/tailgate/internal/page"
)

func configPage(v configView, now time.Time) page.Markup {
	content := page.Concat(
		page.Title("Configuration", page.Verdict(v.InForce, "in force", page.Choose(v.Config != nil, "the last good one is in force", "none"))),
		page.Problems(v.Error, v.AuthKeyError),
		page.Section("Last reload"),
		page.Facts(
			page.Fact("When", page.Text(page.Moment(now, v.LastReload, "never"))),
			page.Fact("Result", page.TextOr(v.Result, "none")),
			page.Fact("Hash in force", page.TextOr(v.Hash, "none")),
			page.Fact("Generation", page.Text(strconv.Itoa(v.Generation))),
			page.Fact("File change to in force", page.Text(strconv.FormatFloat(v.LatencySeconds*1000, 'f', 1, 64)), " ms"),
		),
		page.Section("Errors since the start"),
		errorsTable(v),
	)
	if v.Text == "" {
		return content
	}
	return content + page.Section("In force, secrets left out") + page.Element("pre", page.Text(v.Text)) + "\n"
}

func errorsTable(v configView) page.Markup {
	var rows []page.Markup
	for _, reason := range slices.Sorted(maps.Keys(v.Errors)) {
		n := v.Errors[reason]
		number := page.Cell(page.Choose(n != 0, "number bad", "number"), page.Text(strconv.Itoa(n)))
		rows = append(rows, page.Row(page.Element("th", page.Text(string(reason))), number))
	}
	return page.Facts(rows...)
}
