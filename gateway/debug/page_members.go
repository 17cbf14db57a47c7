package debug

import (
	"strconv"

	"github.com/rajsinghtech/tailgate/internal/page"
)

func membersPage(v membersView) page.Markup {
	missing := ""
	if v.Error != "" {
		missing = "Some counts are missing: " + v.Error
	}
	return page.Concat(
		page.Title("Members", page.Soft(page.Text(strconv.Itoa(len(v.Members))))),
		page.Problems(missing),
		page.Scrolling(membersTable(v.Members)),
		page.Section("Tunnel"),
		page.Scrolling(tunnelTable(v.Tunnel)),
		page.Section("Dropped by the filter"),
		droppedTable(v.Dropped), "\n",
		page.Section("Tracked connections"),
		page.Element("p", tracked(v)), "\n",
	)
}

func membersTable(links []linkView) page.Markup {
	headings := []page.Markup{"Link", "Member", "Addresses", "Sent by it", "Packets", "Received by it", "Packets", "Lost on the link"}
	return page.Table(headings, page.Each(links, func(l linkView) page.Markup {
		return page.Row(page.Element("th", page.Text(l.Link)), page.Cell("", page.Text(l.Member)), page.Cell("", page.List(l.Addrs)), traffic(l))
	}), "No member is linked to this gateway.")
}

func tunnelTable(links []linkView) page.Markup {
	headings := []page.Markup{"Device", "From the tailnet", "Packets", "To the tailnet", "Packets", "Lost on the device"}
	return page.Table(headings, page.Each(links, func(l linkView) page.Markup {
		return page.Row(page.Element("th", page.Text(l.Link)), traffic(l))
	}), "There is no tunnel device.")
}

// traffic is the five cells of a link's counts.
func traffic(l linkView) page.Markup {
	return page.Concat(page.Size(l.SentBytes), page.Count(l.SentPackets), page.Size(l.ReceivedBytes), page.Count(l.ReceivedPackets), page.Count(l.Lost))
}

func droppedTable(rows []droppedRow) page.Markup {
	return page.Table([]page.Markup{"Chain", "Reason", "Packets", "Bytes"}, page.Each(rows, func(d droppedRow) page.Markup {
		return page.Row(page.Cell("", page.Text(d.Chain)), page.Element("th", page.Text(d.Reason)), page.Count(d.Packets), page.Size(d.Bytes))
	}), "The filter has no counters.")
}

// tracked says how full the table of connections is.
func tracked(v membersView) page.Markup {
	if v.ConntrackMax == 0 {
		return "unknown"
	}
	return page.Text(strconv.Itoa(v.ConntrackUsed)) + " of at most " + page.Text(strconv.Itoa(v.ConntrackMax))
}
