package netstate

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Sorted returns the state in canonical form: values as the kernel would write them,
// lists in order, duplicates merged. The state itself is not changed.
func (s State) Sorted() State {
	s = s.ordered()
	s.Links = slices.Compact(s.Links)
	s.Addrs = slices.Compact(s.Addrs)
	s.Neighs = slices.Compact(s.Neighs)
	s.Routes = slices.Compact(s.Routes)
	s.Rules = slices.Compact(s.Rules)
	s.Sysctls = slices.Compact(s.Sysctls)
	return s
}

// ordered is Sorted with duplicates kept.
func (s State) ordered() State {
	return State{
		Links:   canonical(s.Links, canonicalLink, compareLinks),
		Addrs:   canonical(s.Addrs, canonicalAddr, compareAddrs),
		Neighs:  canonical(s.Neighs, canonicalNeigh, compareNeighs),
		Routes:  canonical(s.Routes, canonicalRoute, compareRoutes),
		Rules:   canonical(s.Rules, canonicalRule, compareRules),
		Sysctls: canonical(s.Sysctls, canonicalSysctl, compareSysctls),
	}
}

func canonical[T any](list []T, canon func(T) T, compare func(a, b T) int) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = canon(v)
	}
	slices.SortFunc(out, compare)
	return out
}

func canonicalMAC(s string) string {
	if mac, err := net.ParseMAC(s); err == nil {
		return mac.String()
	}
	return s
}

func canonicalLink(l Link) Link {
	l.MAC, l.Peer.MAC = canonicalMAC(l.MAC), canonicalMAC(l.Peer.MAC)
	return l
}

func canonicalAddr(a Addr) Addr { return a }

func canonicalNeigh(n Neigh) Neigh {
	n.IP, n.MAC = n.IP.Unmap(), canonicalMAC(n.MAC)
	return n
}

func canonicalRoute(r Route) Route {
	r.Dst, r.Via, r.Src = r.Dst.Masked(), r.Via.Unmap(), r.Src.Unmap()
	return r
}

func canonicalRule(r Rule) Rule {
	r.Dst = r.Dst.Masked()
	if r.Mask == 0 {
		r.Mark = 0
	}
	return r
}

func canonicalSysctl(s Sysctl) Sysctl {
	s.Value = strings.Join(strings.Fields(s.Value), " ")
	return s
}

func compareLinks(a, b Link) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(a.String(), b.String())
}

func compareAddrs(a, b Addr) int {
	return cmp.Or(strings.Compare(a.Link, b.Link), comparePrefixes(a.Prefix, b.Prefix))
}

func compareNeighs(a, b Neigh) int {
	return cmp.Or(strings.Compare(a.Link, b.Link), a.IP.Compare(b.IP), strings.Compare(a.MAC, b.MAC))
}

// compareRoutes puts routes of one destination in the order in which the kernel
// prefers them, and those of one key from the narrowest description to the widest:
// a deletion matches whatever has all that it names, so the narrow ones go first.
func compareRoutes(a, b Route) int {
	return cmp.Or(
		cmp.Compare(a.Table, b.Table), comparePrefixes(a.Dst, b.Dst), cmp.Compare(a.Metric, b.Metric),
		cmp.Compare(b.detail(), a.detail()),
		strings.Compare(string(a.Type), string(b.Type)), strings.Compare(a.Link, b.Link),
		a.Via.Compare(b.Via), a.Src.Compare(b.Src), strings.Compare(a.Extra, b.Extra))
}

// detail counts what a deletion of the route can tell the kernel beyond its key.
func (r Route) detail() int {
	n := 0
	for _, set := range []bool{r.Link != "", r.Via.IsValid(), r.Src.IsValid(), r.Extra != ""} {
		if set {
			n++
		}
	}
	return n
}

// compareRules puts rules in the order in which the kernel tries them.
func compareRules(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Table, b.Table),
		comparePrefixes(a.Dst, b.Dst), cmp.Compare(a.Mark, b.Mark), cmp.Compare(a.Mask, b.Mask),
		strings.Compare(a.Iif, b.Iif), strings.Compare(a.Extra, b.Extra))
}

func compareSysctls(a, b Sysctl) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value))
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
