package topology

import (
	"net/netip"
	"slices"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// MarkDNS is on a member's connections to the cluster's resolver that go to the tailnet's instead. Bit 26 is
// next to ident.MarkReply's and as free as that one is.
const MarkDNS = 0x0400_0000

// Resolvers of every tailnet, one a family (Tailscale's net/tsaddr: TailscaleServiceIP,
// TailscaleServiceIPv6). They answer over UDP and TCP, at the gateway itself.
var (
	ResolverV4 = netip.MustParseAddr("100.100.100.100")
	ResolverV6 = netip.MustParseAddr("fd7a:115c:a1e0::53")
)

// Chains of the redirection.
const (
	chainDNS       = "dns"
	chainDNSSource = "dnssource"
)

const portDNS = 53

// Redirects reports whether t, a member's table, sends queries to the tailnet's resolver.
func Redirects(t ruleset.Table) bool {
	return slices.ContainsFunc(t.Chains, func(c ruleset.Chain) bool { return c.Name == chainDNS })
}

// dns are the chains that redirect queries; none without a link or a resolver.
func (m Member) dns() []ruleset.Chain {
	asked := m.asked()
	if m.Slot == 0 || len(asked) == 0 {
		return nil
	}
	marked := ruleset.CTMark(MarkDNS, MarkDNS)
	var rules []ruleset.Rule
	for _, p := range []ruleset.Proto{ruleset.UDP, ruleset.TCP} {
		rules = append(rules, ruleset.Rule{
			Matches: []ruleset.Match{ruleset.DstIn(asked...), ruleset.DstPort(p, portDNS)},
			Action:  ruleset.SetCTMark(MarkDNS, MarkDNS),
		})
	}
	for _, a := range []netip.Addr{ResolverV4, ResolverV6} {
		rules = append(rules, ruleset.Rule{
			Matches: []ruleset.Match{marked}, Action: ruleset.DNAT(netip.AddrPortFrom(a, 0)),
		})
	}
	return []ruleset.Chain{
		{
			Name: chainDNS, Type: ruleset.TypeNAT, Hook: ruleset.HookOutput, Priority: ruleset.PriorityDNAT, Policy: ruleset.PolicyAccept,
			Rules: rules,
		},
		{
			Name: chainDNSSource, Type: ruleset.TypeNAT, Hook: ruleset.HookPostrouting, Priority: ruleset.PrioritySNAT, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{{
				Matches: []ruleset.Match{ruleset.Oif(ident.MemberLink), marked}, Action: ruleset.Masquerade(),
			}},
		},
	}
}

// asked are the resolvers whose queries can be redirected: one inside the member (a cache on loopback) asks others in
// turn, and the tailnet's own needs no redirection.
func (m Member) asked() []netip.Prefix {
	var ps []netip.Prefix
	for _, a := range m.Resolvers {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && a != ResolverV4 && a != ResolverV6 {
			ps = append(ps, pfx(a))
		}
	}
	return ps
}
