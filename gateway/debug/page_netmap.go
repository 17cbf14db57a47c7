package debug

import (
	"cmp"
	"strconv"
	"time"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func netmapPage(v netmapView, now time.Time) markup {
	page := concat(
		title(textOr(v.Self.Name, "This gateway"), verdict(v.Ready, "ready", "not ready")),
		problems(v.Problems...),
		section("Self"),
		selfFacts(v, now),
		section("Exit node"),
		exitFacts(v.Exit, v.Offers),
	)
	if !v.Known {
		return page
	}
	return page + concat(
		section("Peers ", soft(text(strconv.Itoa(len(v.Peers))))),
		scrolling(peersTable(v.Peers, now)),
		section("Routes"),
		routesTable(v.Routes), "\n",
		section("DNS"),
		dnsFacts(v.DNS),
	)
}

func selfFacts(v netmapView, now time.Time) markup {
	cached := " " + soft("with a netmap from the disk; the control plane has not been heard yet")
	state := fact("State", text(v.State), choose(v.Cached, cached, ""))
	if !v.Known {
		return facts(state, fact("Netmap", "none yet"))
	}
	return facts(
		state,
		fact("Addresses", list(v.Self.Addrs)),
		fact("Tags", textOr(joined(v.Self.Tags), "none")),
		fact("Node key expires", text(moment(now, v.Self.KeyExpiry, "never"))),
		fact("Device ID", text(v.Self.ID)),
		fact("Public node key", text(v.Self.Key)),
	)
}

func exitFacts(exit snapshot.ExitNode, offers []string) markup {
	var used, offered markup = "none", "On offer"
	if exit.ID != "" {
		used = text(cmp.Or(exit.Name, exit.ID)) + " " + verdict(exit.Online, "online", "offline")
		offered = "Others on offer"
	}
	if exit.Message != "" {
		used += " " + element(`div class="bad"`, text(exit.Message))
	}
	return facts(
		fact("Wanted", textOr(exit.Wanted, "none")),
		fact("In use", used),
		fact(offered, textOr(joined(offers), "none")),
	)
}

func peersTable(peers []peerView, now time.Time) markup {
	headings := []markup{"Name", "Addresses", "Tags", "Routes", "Exit", "Online", "Path", "Handshake", "From it", "To it", "Last seen"}
	return table(headings, each(peers, func(v peerView) markup { return peerRow(v, now) }),
		"The tailnet's policy shows this gateway no other node.")
}

func peerRow(v peerView, now time.Time) markup {
	online := map[string]markup{"online": "good", "offline": "bad"}[v.Online]
	activity := element("div", choose(v.Active, "active", "idle"))
	return row(
		element("th", text(v.Name), note(text(v.ID)+choose(v.OS != "", " · "+text(v.OS), ""))),
		cell("", list(v.Addrs)),
		cell("", list(v.Tags)),
		cell("", list(v.Routes)),
		cell(choose(v.Exit == exitUsed, "good", ""), text(v.Exit)),
		cell(online, text(v.Online)),
		cell(choose(v.Active, "", "soft"), text(v.Path), activity),
		cell("", text(age(now, v.Handshake))),
		size(v.Rx),
		size(v.Tx),
		cell("", text(age(now, v.LastSeen))),
	)
}

func routesTable(routes []routeView) markup {
	return table([]markup{"Prefix", "Served by", "Accepted"}, each(routes, func(v routeView) markup {
		accepted := choose(v.Accepted, cell("good", "yes"), cell("", "no"))
		return row(element("th", text(v.Prefix), note(text(v.Note))), cell("", list(v.Via)), accepted)
	}), "No peer serves a route beyond its own addresses.")
}

func dnsFacts(v dnsView) markup {
	rows := []markup{
		fact("MagicDNS", choose(v.MagicDNS, "on", "off"), choose(v.Suffix != "", ", "+text(v.Suffix), "")),
		fact("Search domains", textOr(joined(v.Domains), "none")),
		fact("Nameservers", textOr(joined(v.Nameservers), "none of the tailnet's; the cluster's are asked")),
	}
	for _, s := range v.Split {
		rows = append(rows, fact(text(s.Domain), textOr(joined(s.Nameservers), "answered by the gateway")))
	}
	return facts(rows...)
}
