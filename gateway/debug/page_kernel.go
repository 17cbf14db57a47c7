package debug

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

func kernelPage(v kernelView, now time.Time) markup {
	page := concat(
		title("Kernel", verdict(v.InPlace, "as wanted", "not as wanted")),
		problems(v.Error, v.InspectError),
		facts(
			fact("Last change", text(moment(now, v.LastApply, "never"))),
			fact("Repairs of what others changed", text(strconv.Itoa(v.Repairs))),
			fact("Changes", changes(v.Changes)),
		),
	)
	if v.InspectError != "" {
		return page
	}
	return page + concat(
		section("To be changed: links, addresses, routes, rules"), listing(v.State.Difference),
		section("To be changed: nftables"), listing(v.Table.Difference),
		section("Observed: links, addresses, routes, rules"), listing(v.State.Observed),
		section("Desired: links, addresses, routes, rules"), listing(v.State.Desired),
		section("Observed: nftables"), listing(v.Table.Observed),
		section("Desired: nftables"), listing(v.Table.Desired),
	)
}

// changes says how often each kind of change was made.
func changes(counts map[string]int) markup {
	var lines markup
	for _, op := range slices.Sorted(maps.Keys(counts)) {
		lines += element("div", text(op), " ", text(strconv.Itoa(counts[op])))
	}
	return choose(lines != "", lines, "none")
}
