package debug

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rajsinghtech/tailgate/internal/page"
)

func kernelPage(v kernelView, now time.Time) page.Markup {
	content := page.Concat(
		page.Title("Kernel", page.Verdict(v.InPlace, "as wanted", "not as wanted")),
		page.Problems(v.Error, v.InspectError),
		page.Facts(
			page.Fact("Last change", page.Text(page.Moment(now, v.LastApply, "never"))),
			page.Fact("Repairs of what others changed", page.Text(strconv.Itoa(v.Repairs))),
			page.Fact("Changes", changes(v.Changes)),
		),
	)
	if v.InspectError != "" {
		return content
	}
	return content + page.Concat(
		page.Section("To be changed: links, addresses, routes, rules"), page.Listing(v.State.Difference),
		page.Section("To be changed: nftables"), page.Listing(v.Table.Difference),
		page.Section("Observed: links, addresses, routes, rules"), page.Listing(v.State.Observed),
		page.Section("Desired: links, addresses, routes, rules"), page.Listing(v.State.Desired),
		page.Section("Observed: nftables"), page.Listing(v.Table.Observed),
		page.Section("Desired: nftables"), page.Listing(v.Table.Desired),
	)
}

// changes says how often each kind of change was made.
func changes(counts map[string]int) page.Markup {
	var lines page.Markup
	for _, op := range slices.Sorted(maps.Keys(counts)) {
		lines += page.Element("div", page.Text(op), " ", page.Text(strconv.Itoa(counts[op])))
	}
	return page.Choose(lines != "", lines, "none")
}
