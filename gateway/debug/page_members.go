package debug

import "strconv"

func membersPage(v membersView) markup {
	missing := ""
	if v.Error != "" {
		missing = "Some counts are missing: " + v.Error
	}
	return concat(
		title("Members", soft(text(strconv.Itoa(len(v.Members))))),
		problems(missing),
		scrolling(membersTable(v.Members)),
		section("Tunnel"),
		scrolling(tunnelTable(v.Tunnel)),
		section("Dropped by the filter"),
		droppedTable(v.Dropped), "\n",
		section("Tracked connections"),
		element("p", tracked(v)), "\n",
	)
}

func membersTable(links []linkView) markup {
	headings := []markup{"Link", "Member", "Addresses", "Sent by it", "Packets", "Received by it", "Packets", "Lost on the link"}
	return table(headings, each(links, func(l linkView) markup {
		return row(element("th", text(l.Link)), cell("", text(l.Member)), cell("", list(l.Addrs)), traffic(l))
	}), "No member is linked to this gateway.")
}

func tunnelTable(links []linkView) markup {
	headings := []markup{"Device", "From the tailnet", "Packets", "To the tailnet", "Packets", "Lost on the device"}
	return table(headings, each(links, func(l linkView) markup {
		return row(element("th", text(l.Link)), traffic(l))
	}), "There is no tunnel device.")
}

// traffic is the five cells of a link's counts.
func traffic(l linkView) markup {
	return concat(size(l.SentBytes), count(l.SentPackets), size(l.ReceivedBytes), count(l.ReceivedPackets), count(l.Lost))
}

func droppedTable(rows []droppedRow) markup {
	return table([]markup{"Chain", "Reason", "Packets", "Bytes"}, each(rows, func(d droppedRow) markup {
		return row(cell("", text(d.Chain)), element("th", text(d.Reason)), count(d.Packets), size(d.Bytes))
	}), "The filter has no counters.")
}

// tracked says how full the table of connections is.
func tracked(v membersView) markup {
	if v.ConntrackMax == 0 {
		return "unknown"
	}
	return text(strconv.Itoa(v.ConntrackUsed)) + " of at most " + text(strconv.Itoa(v.ConntrackMax))
}
