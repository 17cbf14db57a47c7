package debug

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

func configPage(v configView, now time.Time) markup {
	page := concat(
		title("Configuration", verdict(v.InForce, "in force", choose(v.Config != nil, "the last good one is in force", "none"))),
		problems(v.Error, v.AuthKeyError),
		section("Last reload"),
		facts(
			fact("When", text(moment(now, v.LastReload, "never"))),
			fact("Result", textOr(v.Result, "none")),
			fact("Hash in force", textOr(v.Hash, "none")),
			fact("Generation", text(strconv.Itoa(v.Generation))),
			fact("File change to in force", text(strconv.FormatFloat(v.LatencySeconds*1000, 'f', 1, 64)), " ms"),
		),
		section("Errors since the start"),
		errorsTable(v),
	)
	if v.Text == "" {
		return page
	}
	return page + section("In force, secrets left out") + element("pre", text(v.Text)) + "\n"
}

func errorsTable(v configView) markup {
	var rows []markup
	for _, reason := range slices.Sorted(maps.Keys(v.Errors)) {
		n := v.Errors[reason]
		number := cell(choose(n != 0, "number bad", "number"), text(strconv.Itoa(n)))
		rows = append(rows, row(element("th", text(string(reason))), number))
	}
	return facts(rows...)
}
