package debug

import (
	"cmp"
	"strconv"
	"time"

	"github.com/rajsinghtech/tailgate/internal/page"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func netmapPage(v netmapView, now time.Time) page.Markup {
	content := page.Concat(
		page.Title(page.TextOr(v.Self.Name, "This gateway"), page.Verdict(v.Ready, "ready", "not ready")),
		page.Problems(v.Problems...),
		page.Section("Self"),
		selfFacts(v, now),
		page.Section("Exit node"),
		exitFacts(v.Exit, v.Offers),
	)
	if !v.Known {
		return content
	}
	return content + page.Concat(
		page.Section("Peers ", page.Soft(page.Text(strconv.Itoa(len(v.Peers))))),
		page.Scrolling(peersTable(v.Peers, now)),
		page.Section("Routes"),
		routesTable(v.Routes), "\n",
		page.Section("DNS"),
		dnsFacts(v.DNS),
	)
}

func selfFacts(v netmapView, now time.Time) page.Markup {
	cached := " " + page.Soft("with a netmap from the disk; the control plane has not been heard yet")
	state := page.Fact("State", page.Text(v.State), page.Choose(v.Cached, cached, ""))
	if !v.Known {
		return page.Facts(state, page.Fact("Netmap", "none yet"))
	}
	return page.Facts(
		state,
		page.Fact("Addresses", page.List(v.Self.Addrs)),
		page.Fact("Tags", page.TextOr(page.Commas(v.Self.Tags), "none")),
		page.Fact("Node key expires", page.Text(page.Moment(now, v.Self.KeyExpiry, "never"))),
		page.Fact("Device ID", page.Text(v.Self.ID)),
		page.Fact("Public node key", page.Text(v.Self.Key)),
	)
}

func exitFacts(exit snapshot.ExitNode, offers []string) page.Markup {
	var used, offered page.Markup = "none", "On offer"
	if exit.ID != "" {
		used = page.Text(cmp.Or(exit.Name, exit.ID)) + " " + page.Verdict(exit.Online, "online", "offline")
		offered = "Others on offer"
	}
	if exit.Message != "" {
		used += " " + page.Element(`div class="bad"`, page.Text(exit.Message))
	}
	return page.Facts(
		page.Fact("Wanted", page.TextOr(exit.Wanted, "none")),
		page.Fact("In use", used),
		page.Fact(offered, page.TextOr(page.Commas(offers), "none")),
	)
}

func peersTable(peers []peerView, now time.Time) page.Markup {
	headings := []page.Markup{"Name", "Addresses", "Tags", "Routes", "Exit", "Online", "Path", "Handshake", "From it", "To it", "Last seen"}
	return page.Table(headings, page.Each(peers, func(v peerView) page.Markup { return peerRow(v, now) }),
		"The tailnet's policy shows this gateway no other node.")
}

func peerRow(v peerView, now time.Time) page.Markup {
	online := map[string]page.Markup{"online": "good", "offline": "bad"}[v.Online]
	activity := page.Element("div", page.Choose(v.Active, "active", "idle"))
	return page.Row(
		page.Element("th", page.Text(v.Name), page.Note(page.Text(v.ID)+page.Choose(v.OS != "", " · "+page.Text(v.OS), ""))),
		page.Cell("", page.List(v.Addrs)),
		page.Cell("", page.List(v.Tags)),
		page.Cell("", page.List(v.Routes)),
		page.Cell(page.Choose(v.Exit == exitUsed, "good", ""), page.Text(v.Exit)),
		page.Cell(online, page.Text(v.Online)),
		page.Cell(page.Choose(v.Active, "", "soft"), page.Text(v.Path), activity),
		page.Cell("", page.Text(page.Age(now, v.Handshake))),
		page.Size(v.Rx),
		page.Size(v.Tx),
		page.Cell("", page.Text(page.Age(now, v.LastSeen))),
	)
}

func routesTable(routes []routeView) page.Markup {
	return page.Table([]page.Markup{"Prefix", "Served by", "Accepted"}, page.Each(routes, func(v routeView) page.Markup {
		accepted := page.Choose(v.Accepted, page.Cell("good", "yes"), page.Cell("", "no"))
		return page.Row(page.Element("th", page.Text(v.Prefix), page.Note(page.Text(v.Note))), page.Cell("", page.List(v.Via)), accepted)
	}), "No peer serves a route beyond its own addresses.")
}

func dnsFacts(v dnsView) page.Markup {
	rows := []page.Markup{
		page.Fact("MagicDNS", page.Choose(v.MagicDNS, "on", "off"), page.Choose(v.Suffix != "", ", "+page.Text(v.Suffix), "")),
		page.Fact("Search domains", page.TextOr(page.Commas(v.Domains), "none")),
		page.Fact("Nameservers", page.TextOr(page.Commas(v.Nameservers), "none of the tailnet's; the cluster's are asked")),
	}
	for _, s := range v.Split {
		rows = append(rows, page.Fact(page.Text(s.Domain), page.TextOr(page.Commas(s.Nameservers), "answered by the gateway")))
	}
	return page.Facts(rows...)
}
