package tailnet

import (
	"net/netip"
	"slices"

	"tailscale.com/tailcfg"
)

func isDefault(p netip.Prefix) bool { return p.Bits() == 0 }

// enabled returns what n both offers and may route.
func (n *node) enabled() []netip.Prefix {
	return slices.DeleteFunc(sortedPrefixes(n.advertised()), func(p netip.Prefix) bool { return !slices.Contains(n.approved, p) })
}

// settleLocked chooses one router for each subnet: the present one as long
// as it is online, then the first that is, then the first. Exit nodes do not compete.
func (t *Tailnet) settleLocked() {
	candidates := map[netip.Prefix][]*node{}
	for _, n := range t.nodes {
		for _, p := range n.enabled() {
			if !isDefault(p) && !n.expired {
				candidates[p] = append(candidates[p], n)
			}
		}
	}
	primary := map[netip.Prefix]tailcfg.NodeID{}
	for p, ns := range candidates {
		primary[p] = ns[0].id
		if i := slices.IndexFunc(ns, func(n *node) bool { return n.streams > 0 }); i >= 0 {
			primary[p] = ns[i].id
		}
		if slices.ContainsFunc(ns, func(n *node) bool { return n.id == t.primary[p] && n.streams > 0 }) {
			primary[p] = t.primary[p]
		}
	}
	t.primary = primary
}

// servedLocked returns the prefixes that n routes now, sorted.
func (t *Tailnet) servedLocked(n *node) []netip.Prefix {
	return slices.DeleteFunc(n.enabled(), func(p netip.Prefix) bool { return !isDefault(p) && t.primary[p] != n.id })
}

// subnetsLocked returns all subnets that anybody routes now, sorted.
func (t *Tailnet) subnetsLocked() []netip.Prefix {
	var out []netip.Prefix
	for p := range t.primary {
		out = append(out, p)
	}
	return sortedPrefixes(out)
}
