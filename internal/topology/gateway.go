package topology

import (
	"net/netip"
	"slices"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// Gateway is what a gateway process wants of its own network namespace. The zero
// value, with a TUN, is a gateway that is on no tailnet: everything members send is unreachable.
type Gateway struct {
	// TUN is the name of the tunnel device.
	TUN string
	// TxQueueLen is that of the TUN in packets; 0 leaves the kernel's (500).
	TxQueueLen int
	// Addrs are the node's tailnet addresses, /32 and /128.
	Addrs []netip.Prefix
	// Routes lead to the tailnet: peers, subnets, the service addresses, and
	// 0.0.0.0/0 and ::/0 with an exit node.
	Routes []netip.Prefix
	// NoExit: an exit node is wanted, and there is none. Tailscale then sends all there is into the tunnel, where it
	// vanishes; here default routes are left out, and members hear at once that there is no way.
	NoExit bool
	// Local are prefixes that must not go to the exit node (the gateway's LAN,
	// when the configuration keeps that direct). Members reach them by their own
	// interface or not at all, never through the gateway's.
	Local []netip.Prefix
	// Nameservers are the tailnet's, which the gateway itself asks on behalf of its members.
	// The rest of its own traffic, such as answers to the kubelet's probes and WireGuard itself, never
	// takes a tailnet route, whatever that covers; but for the kernel's answers to what came out of the tunnel.
	Nameservers []netip.Addr
}

// GatewayScope is what [Gateway.State] covers, with the TUN of that name.
func GatewayScope(tun string) netstate.Scope {
	return netstate.Scope{
		Links:     []string{tun},
		Tables:    []int{ident.TableGateway},
		RuleFirst: ident.RuleGateway,
		RuleLast:  ident.RuleLast,
		Sysctls:   sysctlKeys(gatewaySysctls(tun)),
	}
}

// State is the desired state in the gateway's namespace, less member links, which
// are [Member.GatewayState].
func (g Gateway) State() netstate.State {
	s := netstate.State{
		Links: []netstate.Link{{
			Name: g.TUN, Kind: netstate.Existing, MTU: ident.MTU, TxQueueLen: g.TxQueueLen, Up: true,
		}},
		Sysctls: gatewaySysctls(g.TUN),
	}
	for _, p := range g.Addrs {
		s.Addrs = append(s.Addrs, netstate.Addr{Link: g.TUN, Prefix: p})
	}
	for _, f := range []netstate.Family{netstate.V4, netstate.V6} {
		s.Rules = append(s.Rules,
			netstate.Rule{Family: f, Priority: ident.RuleGateway, Table: ident.TableGateway, Mark: ident.MarkMember, Mask: ident.MarkMember},
			// The kernel's own answers, see answers, to the tailnet: by main they would leave for the cluster's network.
			netstate.Rule{Family: f, Priority: ident.RuleGatewayOwn, Table: ident.TableGateway, Mark: ident.MarkTunnel, Mask: ident.MarkTunnel, Iif: "lo"},
		)
	}
	for _, a := range g.Nameservers {
		if g.routed(a) {
			s.Rules = append(s.Rules, netstate.Rule{
				Family: family(a), Priority: ident.RuleGatewayOwn, Table: ident.TableGateway, Dst: pfx(a), Iif: "lo",
			})
		}
	}
	s.Routes = g.routes()
	return s.Sorted()
}

// routed reports whether a prefix that is not a default route leads to a.
func (g Gateway) routed(a netip.Addr) bool {
	return slices.ContainsFunc(g.Routes, func(p netip.Prefix) bool { return p.Bits() > 0 && p.Contains(a) })
}

func family(a netip.Addr) netstate.Family {
	if a.Is4() {
		return netstate.V4
	}
	return netstate.V6
}

// routes holds one route a prefix at the preferred metric; what is not routable
// wins over what is, and an unreachable default lies behind all.
func (g Gateway) routes() []netstate.Route {
	unicast := make(map[netip.Prefix]bool)
	for _, p := range g.Routes {
		if p.Bits() > 0 || !g.NoExit {
			unicast[p.Masked()] = true
		}
	}
	for _, p := range slices.Concat(g.Local, neverTailnet) {
		unicast[p.Masked()] = false
	}
	var rs []netstate.Route
	for p, ok := range unicast {
		r := netstate.Route{Table: ident.TableGateway, Dst: p, Metric: ident.MetricPreferred, Type: netstate.Unreachable}
		if ok {
			r.Type, r.Link = netstate.Unicast, g.TUN
		}
		rs = append(rs, r)
	}
	for _, p := range defaults {
		rs = append(rs, netstate.Route{
			Table: ident.TableGateway, Dst: p, Metric: ident.MetricFallback, Type: netstate.Unreachable,
		})
	}
	return netstate.State{Routes: rs}.Sorted().Routes
}

// neverTailnet are destinations that an exit node's default route must not catch:
// other members, and IPv4 link-local, which means something else on every node.
var neverTailnet = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), ident.MemberV6}

var defaults = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// gatewaySysctls: forwarding for both families; reverse path filtering off, because
// the return path of a packet from the tailnet is in a table that only members' packets
// see, and the effective value is the larger of all's and the link's
// (Documentation/networking/ip-sysctl.rst).
func gatewaySysctls(tun string) []netstate.Sysctl { return append(attachSysctls(), TUNSysctls(tun)...) }

// TUNSysctls are those that come with the tunnel device. [Base] sets what a device inherits when it is made; one
// that was made before needs these.
func TUNSysctls(tun string) []netstate.Sysctl {
	return []netstate.Sysctl{
		{Key: "net/ipv4/conf/" + tun + "/rp_filter", Value: "0"},
		{Key: "net/ipv6/conf/" + tun + "/disable_ipv6", Value: "0"},
	}
}

func sysctlKeys(s []netstate.Sysctl) []string {
	keys := make([]string, len(s))
	for i := range s {
		keys[i] = s[i].Key
	}
	return keys
}

// Comments of the gateway's counting rules, which are also the "reason" label of
// tailgate_gateway_dropped_packets_total.
const (
	DropMemberToMember   = "member_to_member"
	DropMemberElsewhere  = "member_not_to_tailnet"
	DropMemberToGateway  = "member_to_gateway"
	DropTailnetToMember  = "tailnet_to_member"
	DropTailnetToGateway = "tailnet_to_gateway"
	DropNeighbour        = "neighbour"
	DropNeighbourTailnet = "neighbour_to_tailnet_address"
)

// Ruleset is the gateway's nftables table: it marks what members and the tunnel send, masquerades
// what members send to the tailnet, clamps TCP's MSS, and forwards nothing else.
func (g Gateway) Ruleset() ruleset.Table {
	fromMember := ruleset.IifPrefix(ident.GatewayLinkPrefix)
	fromTUN, toTUN := ruleset.Iif(g.TUN), ruleset.Oif(g.TUN)
	drop := func(why string, m ...ruleset.Match) ruleset.Rule {
		return ruleset.Rule{Matches: m, Action: ruleset.Drop(), Counter: true, Comment: why}
	}
	input := []ruleset.Rule{
		{Matches: []ruleset.Match{fromTUN, ruleset.CTState(ruleset.StateEstablished, ruleset.StateRelated)}, Action: ruleset.Accept()},
		{Matches: []ruleset.Match{fromTUN, ruleset.L4Proto(ruleset.ICMP)}, Action: ruleset.Accept()},
		{Matches: []ruleset.Match{fromTUN, ruleset.L4Proto(ruleset.ICMPv6)}, Action: ruleset.Accept()},
		// Its health and metrics pages are the cluster's, not the tailnet's.
		drop(DropTailnetToGateway, fromTUN),
		// A ping to the gateway's own address shows a person that the link works.
		{Matches: []ruleset.Match{fromMember, ruleset.DstIn(pfx(ident.GatewayV4)), ruleset.L4Proto(ruleset.ICMP)}, Action: ruleset.Accept()},
		{Matches: []ruleset.Match{fromMember, ruleset.DstIn(pfx(ident.GatewayV6)), ruleset.L4Proto(ruleset.ICMPv6)}, Action: ruleset.Accept()},
		drop(DropMemberToGateway, fromMember),
	}
	if len(g.Addrs) > 0 {
		// The weak host model (RFC 1122, section 3.3.4.2) would let a neighbour pod
		// talk to what listens on the tailnet address.
		input = append(input, drop(DropNeighbourTailnet, ruleset.Not(fromTUN), ruleset.Not(ruleset.Iif("lo")), ruleset.DstIn(g.Addrs...)))
	}
	return ruleset.Table{Name: ident.NFTable, Chains: []ruleset.Chain{
		{
			Name: "mark", Type: ruleset.TypeFilter, Hook: ruleset.HookPrerouting, Priority: ruleset.PriorityMangle, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{
				{Matches: []ruleset.Match{fromMember}, Action: ruleset.SetMark(ident.MarkMember, ident.MarkMember)},
				{Matches: []ruleset.Match{fromTUN}, Action: ruleset.SetMark(ident.MarkTunnel, ident.MarkTunnel)},
				// What the engine tries the TUN's offloads with when it starts (probeTCPGRO in Tailscale's net/tstun) is no traffic.
				{Matches: []ruleset.Match{fromTUN, ruleset.DstIn(pfx(ResolverV4))}, Action: ruleset.Drop()},
			},
		},
		{
			Name: "input", Type: ruleset.TypeFilter, Hook: ruleset.HookInput, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
			Rules: input,
		},
		{
			Name: "forward", Type: ruleset.TypeFilter, Hook: ruleset.HookForward, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyDrop,
			Rules: []ruleset.Rule{
				// Only what conntrack knows: a packet in no state would not be masqueraded.
				{Matches: []ruleset.Match{fromMember, toTUN, ruleset.CTState(ruleset.StateNew, ruleset.StateEstablished, ruleset.StateRelated)}, Action: ruleset.Accept()},
				{Matches: []ruleset.Match{fromTUN, ruleset.OifPrefix(ident.GatewayLinkPrefix), ruleset.CTState(ruleset.StateEstablished, ruleset.StateRelated)}, Action: ruleset.Accept()},
				drop(DropMemberToMember, fromMember, ruleset.OifPrefix(ident.GatewayLinkPrefix)),
				drop(DropMemberElsewhere, fromMember),
				drop(DropTailnetToMember, fromTUN),
				drop(DropNeighbour),
			},
		},
		{
			Name: "mss", Type: ruleset.TypeFilter, Hook: ruleset.HookForward, Priority: ruleset.PriorityMangle, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{
				{Matches: []ruleset.Match{toTUN, ruleset.TCPSyn()}, Action: ruleset.ClampMSS()},
				{Matches: []ruleset.Match{fromTUN, ruleset.TCPSyn()}, Action: ruleset.ClampMSS()},
			},
		},
		{
			Name: "masquerade", Type: ruleset.TypeNAT, Hook: ruleset.HookPostrouting, Priority: ruleset.PrioritySNAT, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{{Matches: []ruleset.Match{toTUN, ruleset.Mark(ident.MarkMember, ident.MarkMember)}, Action: ruleset.Masquerade()}},
		},
	}}
}

func pfx(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
