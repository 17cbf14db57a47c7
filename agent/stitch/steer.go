package stitch

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Overlap is a route of a group that meets one of the cluster's CIDRs.
type Overlap struct {
	Route, CIDR netip.Prefix
	// Steered: the route covers the CIDR and is steered but for that part. Otherwise it lies inside, and is not steered.
	Steered bool
}

// steering is what all members of a group have in common.
type steering struct {
	prefixes, direct []netip.Prefix
	exit             bool
	overlaps         []Overlap
}

// running is Tailscale's name of the state in which a gateway knows its netmap, and with it its routes.
const running = "Running"

// learned is what a gateway said when it last knew.
type learned struct {
	known         bool
	routes, local []netip.Prefix
}

// learn returns what is known with s, which may say nothing.
func (l learned) learn(s *snapshot.Snapshot) learned {
	if s == nil || s.BackendState != running {
		return l
	}
	return learned{known: true, routes: canonical(s.Routes), local: canonical(s.LocalRoutes)}
}

// steer is pure: the same inputs, in whatever order, give the same steering.
func steer(g Group, l learned, cluster []netip.Prefix) steering {
	s := steering{exit: g.Exit != nil}
	routes := slices.Concat(topology.TailnetPrefixes(), g.Prefixes)
	if g.Mirror {
		routes = append(routes, l.routes...)
	}
	direct := slices.Clone(cluster)
	if g.Exit != nil {
		direct = slices.Concat(direct, g.Exit.Direct, l.local)
	}
	s.direct = aggregate(direct)
	for _, r := range canonical(routes) {
		if r.Bits() == 0 {
			continue // what is all else is said by Exit
		}
		o, meets := overlap(r, canonical(cluster))
		if meets {
			s.overlaps = append(s.overlaps, o)
		}
		if !meets || o.Steered {
			s.prefixes = append(s.prefixes, r)
		}
	}
	return s
}

// overlap returns the first of the cluster's CIDRs that holds the route or, if none does, is held by it.
func overlap(r netip.Prefix, cluster []netip.Prefix) (Overlap, bool) {
	covered := Overlap{Route: r, Steered: true}
	for _, c := range cluster {
		if !c.Overlaps(r) {
			continue
		}
		if c.Bits() <= r.Bits() {
			return Overlap{Route: r, CIDR: c}, true
		}
		if !covered.CIDR.IsValid() {
			covered.CIDR = c
		}
	}
	return covered, covered.CIDR.IsValid()
}

// aggregate returns the fewest prefixes with the same addresses: each is a rule that every packet of a member
// is compared with, and a cluster's nodes have a CIDR each.
func aggregate(in []netip.Prefix) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, p := range canonical(in) {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil {
		return canonical(in) // not for prefixes that are valid
	}
	return set.Prefixes()
}

// canonical returns the valid prefixes, masked, in order, each once. IPv4 is IPv4 however it is written.
func canonical(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.IsValid() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
