package topology

import (
	"net/netip"
	"slices"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// Member is one pod's place in a group, on one node.
type Member struct {
	// Alias is put on both ends of the link, after ident.AliasPrefix, and tells them
	// from those of another member or another gateway.
	Alias string
	// Slot is the member's number in the namespace it is attached to; 0: not
	// attached, what is wanted is only that nothing leaves by another way.
	Slot int
	// Prefixes are the tailnet destinations steered onto the link.
	Prefixes []netip.Prefix
	// Direct are destinations that stay on the pod's own interface whatever Prefixes
	// and Exit say: the cluster's CIDRs and the addresses of its nodes. Link-local,
	// multicast and loopback are always added.
	Direct []netip.Prefix
	// Exit steers all that is not Direct.
	Exit bool
	// Resolvers are the cluster's, as the member knows them: while it is attached, its
	// queries to them go to the tailnet's resolver, see [Member.Ruleset]. None: all names are the cluster's.
	Resolvers []netip.Addr
}

// TailnetPrefixes are every tailnet's own: CGNAT for IPv4 and Tailscale's ULA, which
// 4via6 addresses and the service addresses are part of (Tailscale's net/tsaddr).
func TailnetPrefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd7a:115c:a1e0::/48")}
}

// alwaysDirect never leaves a link, or means something else on every node: cloud
// metadata and NodeLocal DNS are in 169.254.0.0/16.
var alwaysDirect = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// MemberScope is what [Member.State] covers.
func MemberScope() netstate.Scope {
	return netstate.Scope{
		Links:     []string{ident.MemberLink},
		Tables:    []int{ident.TableMember},
		RuleFirst: ident.RuleFirst,
		RuleLast:  ident.RuleMember,
		Sysctls:   append([]string{memberIPv6}, sysctlKeys(replySysctls())...),
	}
}

// memberIPv6 is off in the pods of some IPv4-only clusters; ours is the only link
// it is turned on for.
const memberIPv6 = "net/ipv6/conf/" + ident.MemberLink + "/disable_ipv6"

// replySysctls have the mark of what comes in by the pod's own interface decide, too, where the kernel looks for a route before
// nftables has a say: for the answer to a SYN, and all else of its connection, which would otherwise not be
// made while the member has no link; and for the way back to the sender, which reverse path filtering looks for. Without marks
// they mean nothing, so they stay when a member leaves (Documentation/networking/ip-sysctl.rst).
func replySysctls() []netstate.Sysctl {
	return []netstate.Sysctl{
		{Key: "net/ipv4/tcp_fwmark_accept", Value: "1"}, // IPv6's, too
		{Key: "net/ipv4/conf/all/src_valid_mark", Value: "1"},
	}
}

// State is the desired state in the member's own namespace.
func (m Member) State() netstate.State {
	s := netstate.State{Rules: m.rules(), Sysctls: replySysctls()}
	steered := slices.Clone(m.Prefixes)
	if m.Exit {
		steered = append(steered, defaults...)
	}
	for _, p := range steered {
		s.Routes = append(s.Routes, netstate.Route{
			Table: ident.TableMember, Dst: p.Masked(), Metric: ident.MetricFallback, Type: netstate.Unreachable,
		})
	}
	if m.Slot == 0 {
		return s.Sorted()
	}
	s.Links = []netstate.Link{{
		Name: ident.MemberLink, Kind: netstate.Veth, Alias: ident.AliasPrefix + m.Alias, MTU: ident.MTU,
		MAC: ident.MemberMAC(m.Slot), Up: true,
		Peer: netstate.Peer{Name: ident.GatewayLink(m.Slot), MAC: ident.GatewayMAC},
	}}
	s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: memberIPv6, Value: "0"})
	v4, v6 := ident.MemberAddrs(m.Slot)
	for _, e := range []struct{ own, gateway netip.Addr }{{v4, ident.GatewayV4}, {v6, ident.GatewayV6}} {
		s.Addrs = append(s.Addrs, netstate.Addr{Link: ident.MemberLink, Prefix: pfx(e.own)})
		s.Neighs = append(s.Neighs, netstate.Neigh{Link: ident.MemberLink, IP: e.gateway, MAC: ident.GatewayMAC})
		for _, p := range steered {
			if p.Addr().Is4() == e.own.Is4() {
				s.Routes = append(s.Routes, netstate.Route{
					Table: ident.TableMember, Dst: p.Masked(), Metric: ident.MetricPreferred, Type: netstate.Unicast,
					Link: ident.MemberLink, Via: e.gateway, Src: e.own,
				})
			}
		}
	}
	return s.Sorted()
}

func (m Member) rules() []netstate.Rule {
	var rs []netstate.Rule
	for _, f := range []netstate.Family{netstate.V4, netstate.V6} {
		rs = append(rs,
			netstate.Rule{Family: f, Priority: ident.RuleReply, Table: ident.TableMain, Mark: ident.MarkReply, Mask: ident.MarkReply},
			netstate.Rule{Family: f, Priority: ident.RuleMember, Table: ident.TableMember},
		)
	}
	for _, p := range m.direct() {
		rs = append(rs, netstate.Rule{Family: family(p.Addr()), Priority: ident.RuleDirect, Table: ident.TableMain, Dst: p})
	}
	return rs
}

func (m Member) direct() []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range slices.Concat(alwaysDirect, m.Direct) {
		ps = append(ps, p.Masked())
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	return slices.Compact(ps)
}

// DropLeak is the comment of the member's kill-switch counter.
const DropLeak = "kept_from_leaking"

// Ruleset is the member's nftables table: it sends replies back the way their
// connection came in, drops what would leave for a steered destination by another link, and sends
// queries for names to the tailnet's resolver.
//
// The routes alone do not stop a program that binds its socket to eth0 (SO_BINDTODEVICE
// needs no privilege): where no route fits, the kernel then takes the destination to be on that link.
// The guard stands at postrouting, because a packet that NAT or a mark has routed anew at output keeps its
// first link's name there (struct nf_hook_state is filled in once a hook).
func (m Member) Ruleset() ruleset.Table {
	own := []ruleset.Match{ruleset.Not(ruleset.Iif(ident.MemberLink)), ruleset.Not(ruleset.Iif("lo"))}
	away := []ruleset.Match{ruleset.Not(ruleset.Oif(ident.MemberLink)), ruleset.Not(ruleset.Oif("lo"))}
	guard := []ruleset.Rule{
		{Matches: []ruleset.Match{ruleset.CTMark(ident.MarkReply, ident.MarkReply)}, Action: ruleset.Accept()},
		{Matches: []ruleset.Match{ruleset.DstIn(m.direct()...)}, Action: ruleset.Accept()},
	}
	leak := ruleset.Rule{Matches: away, Action: ruleset.Drop(), Counter: true, Comment: DropLeak}
	if !m.Exit {
		leak.Matches = append(slices.Clone(away), ruleset.DstIn(m.Prefixes...))
	}
	if m.Exit || len(m.Prefixes) > 0 {
		guard = append(guard, leak)
	}
	return ruleset.Table{Name: ident.NFTable, Chains: append([]ruleset.Chain{
		{
			Name: "reply", Type: ruleset.TypeFilter, Hook: ruleset.HookPrerouting, Priority: ruleset.PriorityMangle, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{
				{
					Matches: append(slices.Clone(own), ruleset.CTState(ruleset.StateNew)),
					Action:  ruleset.SetCTMark(ident.MarkReply, ident.MarkReply),
				},
				{
					Matches: append(slices.Clone(own), ruleset.CTMark(ident.MarkReply, ident.MarkReply)),
					Action:  ruleset.SetMark(ident.MarkReply, ident.MarkReply),
				},
			},
		},
		{
			Name: "replyroute", Type: ruleset.TypeRoute, Hook: ruleset.HookOutput, Priority: ruleset.PriorityMangle, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{{
				Matches: []ruleset.Match{ruleset.CTMark(ident.MarkReply, ident.MarkReply)},
				Action:  ruleset.SetMark(ident.MarkReply, ident.MarkReply),
			}},
		},
		{
			Name: "guard", Type: ruleset.TypeFilter, Hook: ruleset.HookPostrouting, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
			Rules: guard,
		},
	}, m.dns()...)}
}

// AttachScope is what [Member.GatewayState] covers: one member's link in the
// namespace that it is attached to. It names nothing of any other member, so that its
// cost does not grow with their number.
func AttachScope(slot int) netstate.Scope {
	link := ident.GatewayLink(slot)
	return netstate.Scope{Links: []string{link}, Tables: []int{ident.TableMain}, RouteLinks: []string{link}}
}

// GatewayState is the desired state of the member's link in the namespace that the
// member is attached to. Slot must not be 0.
func (m Member) GatewayState() netstate.State {
	link := ident.GatewayLink(m.Slot)
	s := netstate.State{Links: []netstate.Link{{
		Name: link, Kind: netstate.Veth, Alias: ident.AliasPrefix + m.Alias, MTU: ident.MTU, MAC: ident.GatewayMAC, Up: true,
		Peer: netstate.Peer{Name: ident.MemberLink, MAC: ident.MemberMAC(m.Slot)},
	}}}
	v4, v6 := ident.MemberAddrs(m.Slot)
	for _, e := range []struct{ member, gateway netip.Addr }{{v4, ident.GatewayV4}, {v6, ident.GatewayV6}} {
		s.Neighs = append(s.Neighs, netstate.Neigh{Link: link, IP: e.member, MAC: ident.MemberMAC(m.Slot)})
		s.Routes = append(s.Routes, netstate.Route{
			Table: ident.TableMain, Dst: pfx(e.member), Metric: ident.MetricPreferred, Type: netstate.Unicast,
			Link: link, Src: e.gateway,
		})
	}
	return s.Sorted()
}

// BaseScope is what [Base] covers.
func BaseScope() netstate.Scope {
	return netstate.Scope{
		Links: []string{"lo"}, Addrs: []netip.Prefix{ident.MemberV4, ident.MemberV6},
		RuleFirst: ident.RuleAnswer, RuleLast: ident.RuleAnswer,
		Sysctls: sysctlKeys(Base().Sysctls),
	}
}

// Base is what a namespace needs before members can be attached to it. Whoever
// attaches the first member applies it: it has a writable /proc/sys, which a gateway
// without privileges has not.
func Base() netstate.State {
	rules, sysctls := answers()
	return netstate.State{
		Links:   []netstate.Link{{Name: "lo", Kind: netstate.Existing, Up: true}},
		Addrs:   []netstate.Addr{{Link: "lo", Prefix: pfx(ident.GatewayV4)}, {Link: "lo", Prefix: pfx(ident.GatewayV6)}},
		Rules:   rules,
		Sysctls: append(sysctls, attachSysctls()...),
	}
}

// afterGateway puts a chain behind those of the gateway, which count what they drop.
const afterGateway = ruleset.PriorityFilter + 10

// BaseRuleset goes with [Base], and comes before it: what members send leaves by the tunnel or is refused. A gateway that has
// just been started has neither its tunnel nor its own table yet, and forwarding is on already: without this, what
// its members send would follow the gateway's default route, out by its own interface.
func BaseRuleset() ruleset.Table {
	return ruleset.Table{Name: ident.NFTableAttach, Chains: []ruleset.Chain{{
		Name: "forward", Type: ruleset.TypeFilter, Hook: ruleset.HookForward, Priority: afterGateway, Policy: ruleset.PolicyAccept,
		Rules: []ruleset.Rule{{
			Matches: []ruleset.Match{ruleset.IifPrefix(ident.GatewayLinkPrefix), ruleset.Not(ruleset.Oif(ident.TUN))},
			Action:  ruleset.Reject(),
		}},
	}}}
}

// answers has what the kernel answers by itself, pings and ICMP errors, go where the question came from: it bears the mark of that
// (Documentation/networking/ip-sysctl.rst), and members are in main alone.
func answers() ([]netstate.Rule, []netstate.Sysctl) {
	var rs []netstate.Rule
	for _, f := range []netstate.Family{netstate.V4, netstate.V6} {
		rs = append(rs, netstate.Rule{
			Family: f, Priority: ident.RuleAnswer, Table: ident.TableMain, Mark: ident.MarkMember, Mask: ident.MarkMember, Iif: "lo",
		})
	}
	return rs, []netstate.Sysctl{{Key: "net/ipv4/fwmark_reflect", Value: "1"}, {Key: "net/ipv6/fwmark_reflect", Value: "1"}}
}

// attachSysctls: forwarding and IPv6 on; reverse path filtering off (see gatewaySysctls); and ICMP errors
// without a limit, for each member is one destination, and the second of two connections to
// where no route leads would otherwise hang where the first failed at once.
func attachSysctls() []netstate.Sysctl {
	return []netstate.Sysctl{
		{Key: "net/ipv4/ip_forward", Value: "1"},
		{Key: "net/ipv6/conf/all/forwarding", Value: "1"},
		{Key: "net/ipv6/conf/default/disable_ipv6", Value: "0"},
		{Key: "net/ipv6/conf/lo/disable_ipv6", Value: "0"},
		{Key: "net/ipv4/conf/all/rp_filter", Value: "0"},
		{Key: "net/ipv4/conf/default/rp_filter", Value: "0"},
		{Key: "net/ipv4/icmp_ratelimit", Value: "0"},
		{Key: "net/ipv6/icmp/ratelimit", Value: "0"},
	}
}
