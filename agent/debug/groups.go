package debug

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/page"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// groupsView is the page /debug/groups.
type groupsView struct {
	Groups []groupView `json:"groups"` // by name
}

// groupView is a group on this node, as the engine sees it, and its gateways, as the agent follows them.
type groupView struct {
	Name string `json:"name"`
	// Known: there is such a group. Otherwise there only is a gateway, or what is left of one.
	Known   bool `json:"known"`
	Members int  `json:"members"`
	Joined  int  `json:"joined"`
	// Overlaps are its routes that meet the cluster's CIDRs.
	Overlaps []overlapView `json:"overlaps"`
	// Target is where its members are joined.
	Target   targetView    `json:"target"`
	Gateways []gatewayView `json:"gateways"`
}

type overlapView struct {
	Route string `json:"route"`
	CIDR  string `json:"cidr"`
	// Steered: the route covers the CIDR, and is steered but for that part. Otherwise it lies inside, and is not steered.
	Steered bool `json:"steered"`
}

// targetView is the network namespace that members are joined to.
type targetView struct {
	// There: the engine was told of one. Open: members can be joined to it. Ready: the gateway says that it is ready.
	There bool   `json:"there"`
	Open  bool   `json:"open"`
	Ready bool   `json:"ready"`
	NetNS string `json:"netns,omitempty"`
	// Message says why it is not open.
	Message string `json:"message,omitempty"`
}

// gatewayView is a gateway's pod and what it says.
type gatewayView struct {
	Pod    string `json:"pod"`
	NetNS  string `json:"netns,omitempty"`
	Socket string `json:"socket,omitempty"`
	Ready  bool   `json:"ready"`
	// Error is why it is not heard.
	Error string    `json:"error,omitempty"`
	Heard time.Time `json:"heard,omitzero"`
	// Snapshot is the last that it said; null: nothing, or it does not answer any more.
	Snapshot *snapshot.Snapshot `json:"snapshot"`
	Says     saysView           `json:"-"` // Snapshot as a page shows it
}

// saysView is what of a snapshot is on the page.
type saysView struct {
	Anything                       bool
	Version, State, Name, DeviceID string
	Addrs, Routes, Problems        []string
	ExitWanted, ExitName, ExitWhy  string
	ConfigError                    string
}

func (p *Pages) groupsView() groupsView {
	groups := map[string]groupView{}
	for _, g := range p.o.Source.Report().Groups {
		groups[g.Name] = describeGroup(g)
	}
	for _, gw := range p.o.Source.Gateways() {
		g, ok := groups[gw.Group]
		if !ok {
			g = describeGroup(stitch.GroupReport{Name: gw.Group})
		}
		g.Gateways = append(g.Gateways, describeGateway(gw))
		groups[gw.Group] = g
	}
	byName := slices.SortedFunc(maps.Values(groups), func(a, b groupView) int { return cmp.Compare(a.Name, b.Name) })
	return groupsView{append([]groupView{}, byName...)}
}

func describeGroup(g stitch.GroupReport) groupView {
	v := groupView{
		Name: g.Name, Known: g.Known, Members: g.Members, Joined: g.Joined,
		Overlaps: page.Each(g.Overlaps, describeOverlap), Gateways: []gatewayView{},
	}
	if gw := g.Gateway; gw != nil {
		v.Target = targetView{There: true, Open: gw.Open, Ready: gw.Ready, NetNS: gw.NetNS.Path, Message: gw.Message}
	}
	return v
}

func describeOverlap(o stitch.Overlap) overlapView {
	return overlapView{o.Route.String(), o.CIDR.String(), o.Steered}
}

func describeGateway(gw GatewayView) gatewayView {
	v := gatewayView{Pod: gw.Pod, NetNS: gw.NetNS, Socket: gw.Socket, Ready: gw.ready(), Heard: gw.Heard, Snapshot: gw.Snapshot}
	if gw.Err != nil {
		v.Error = gw.Err.Error()
	}
	if s := gw.Snapshot; s != nil {
		v.Says = saysView{
			Anything: true,
			Version:  s.Version, State: s.BackendState, Name: s.Name, DeviceID: s.DeviceID,
			Addrs: page.Each(s.Addrs, netip.Addr.String), Routes: page.Texts(s.Routes), Problems: s.Problems,
			ExitWanted: s.ExitNode.Wanted, ExitName: cmp.Or(s.ExitNode.Name, s.ExitNode.ID), ExitWhy: s.ExitNode.Message,
			ConfigError: s.Config.Error,
		}
	}
	return v
}

func groupsPage(v groupsView, now time.Time) page.Markup {
	content := page.Title("Groups", page.Soft(number(len(v.Groups)), " on this node"))
	if len(v.Groups) == 0 {
		return content + page.Listing(nil)
	}
	for _, g := range v.Groups {
		content += groupSection(g, now)
	}
	return content
}

func groupSection(g groupView, now time.Time) page.Markup {
	unknown := ""
	if !g.Known {
		unknown = "The group is not known, or not yet; only its gateway is."
	}
	content := page.Concat(
		page.Section(page.Text(g.Name), " ", page.Verdict(g.Target.Ready, "ready", "not ready")),
		page.Problems(unknown),
		page.Facts(
			page.Fact("Members", number(g.Members), ", ", number(g.Joined), " joined"),
			page.Fact("Joined to", target(g.Target)),
			page.Fact("Routes that meet the cluster", overlaps(g.Overlaps)),
		),
	)
	for _, gw := range g.Gateways {
		content += gatewayFacts(gw, now)
	}
	return content
}

// target says where members are joined, and why they are not.
func target(t targetView) page.Markup {
	if !t.There {
		return page.Verdict(false, "", "no gateway on this node")
	}
	return page.Concat(page.Verdict(t.Open, "open", "not open"), page.Note(page.Text(t.NetNS)), page.Note(page.Text(t.Message)))
}

func overlaps(os []overlapView) page.Markup {
	if len(os) == 0 {
		return "none"
	}
	return page.Concat(page.Each(os, func(o overlapView) page.Markup {
		return page.Element("div", page.Text(o.Route), page.Choose(o.Steered, " covers ", " lies inside of "), page.Text(o.CIDR),
			page.Choose(o.Steered, ", which stays direct", ", and is not steered"))
	})...)
}

func gatewayFacts(gw gatewayView, now time.Time) page.Markup {
	s := gw.Says
	rows := []page.Markup{
		page.Fact("Gateway", page.TextOr(gw.Pod, "its pod is not known"), " ", page.Verdict(gw.Ready, "ready", "not ready")),
		page.Fact("Network namespace", page.TextOr(gw.NetNS, "not known")),
		page.Fact("Socket", page.TextOr(gw.Socket, "not known")),
		page.Fact("Last heard", page.Text(page.Moment(now, gw.Heard, "never"))),
	}
	if s.Anything {
		rows = append(rows,
			page.Fact("State", page.Text(s.State)),
			page.Fact("Version", page.Text(s.Version)),
			page.Fact("Device", page.TextOr(s.Name, "none"), page.Note(page.Text(s.DeviceID))),
			page.Fact("Addresses", page.TextOr(page.Commas(s.Addrs), "none")),
			page.Fact("Accepted routes", page.Choose(len(s.Routes) > 0, page.List(s.Routes), "none")),
			page.Fact("Exit node", exitNode(s)),
		)
	}
	configError := ""
	if s.ConfigError != "" {
		configError = "its configuration: " + s.ConfigError
	}
	return page.Problems(append([]string{gw.Error, configError}, s.Problems...)...) + page.Facts(rows...)
}

// exitNode says which exit node was asked for, and which is in use.
func exitNode(s saysView) page.Markup {
	switch {
	case s.ExitWanted == "":
		return "none"
	case s.ExitName == "":
		return page.Text(s.ExitWanted) + page.Element(`div class="bad"`, page.TextOr(s.ExitWhy, "none is in use"))
	}
	return page.Text(s.ExitWanted) + page.Note("in use: "+page.Text(s.ExitName)) + page.Note(page.Text(s.ExitWhy))
}
