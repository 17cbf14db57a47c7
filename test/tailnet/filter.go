package tailnet

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"
)

// internet is what "autogroup:internet" means: all unicast that is not private, shared,
// link-local, loopback or a tailnet's. 0.0.0.0 and 2000:: are in it: who may send there is one for whom exit nodes
// and app connectors resolve (offersExitNodeOrAppConnectorAndPeerHasAutogroupInternet of tailscale.com/ipn/ipnlocal).
var internet = func() []netip.Prefix {
	var b netipx.IPSetBuilder
	b.AddPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	b.AddPrefix(netip.MustParsePrefix("2000::/3"))
	for _, s := range []string{
		"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
		"172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3",
	} {
		b.RemovePrefix(netip.MustParsePrefix(s))
	}
	set, err := b.IPSet()
	if err != nil {
		panic(err) // constants
	}
	return set.Prefixes()
}()

// matches reports whether the selector means node n itself.
func (s selector) matches(n *node) bool {
	switch {
	case s.all:
		return true
	case s.tag != "":
		return slices.Contains(n.tags, s.tag)
	case s.member:
		return len(n.tags) == 0
	case s.tagged:
		return len(n.tags) > 0
	case s.name != "":
		return n.label == s.name
	case s.prefix.IsValid():
		return slices.ContainsFunc(n.addrs(), s.prefix.Overlaps)
	}
	return false
}

// sourcesLocked returns the addresses that the selector means as a source.
func (t *Tailnet) sourcesLocked(s selector) []netip.Prefix {
	switch {
	case s.all:
		return append([]netip.Prefix{tsaddr.CGNATRange(), tsaddr.TailscaleULARange()}, t.subnetsLocked()...)
	case s.prefix.IsValid():
		return []netip.Prefix{s.prefix}
	}
	var out []netip.Prefix
	for _, n := range t.nodes {
		if s.matches(n) {
			out = append(out, n.addrs()...)
		}
	}
	return out
}

// destinationsLocked returns what the selector means as a destination on node n: its
// addresses, the subnets that it routes, the internet. An app connector is a way to the internet as an exit node is.
func (t *Tailnet) destinationsLocked(s selector, n *node) []netip.Prefix {
	served := t.servedLocked(n)
	exit := slices.ContainsFunc(served, isDefault)
	switch {
	case s.internet && (exit || n.connector()):
		return internet
	case s.all && n.connector():
		return slices.Concat(n.addrs(), served, internet)
	case s.all:
		return append(n.addrs(), served...)
	case s.prefix.IsValid():
		var out []netip.Prefix
		for _, p := range append(n.addrs(), served...) {
			switch {
			case isDefault(p) || !p.Overlaps(s.prefix):
			case p.Bits() < s.prefix.Bits():
				out = append(out, s.prefix)
			default:
				out = append(out, p)
			}
		}
		return out
	case s.matches(n):
		return n.addrs()
	}
	return nil
}

// isSourceLocked reports whether node n, or a subnet behind it, is among the sources.
func (t *Tailnet) isSourceLocked(src []selector, n *node) bool {
	return slices.ContainsFunc(src, func(s selector) bool {
		return s.matches(n) || s.prefix.IsValid() && slices.ContainsFunc(t.servedLocked(n), func(p netip.Prefix) bool {
			return !isDefault(p) && p.Overlaps(s.prefix)
		})
	})
}

// filterLocked compiles the packet filter of node n. Never nil: nil would leave
// a node's filter as it is.
func (t *Tailnet) filterLocked(n *node) []tailcfg.FilterRule {
	out := []tailcfg.FilterRule{}
	for _, r := range t.grants {
		var src, dst []netip.Prefix
		for _, s := range r.dst {
			dst = append(dst, t.destinationsLocked(s, n)...)
		}
		for _, s := range r.src {
			src = append(src, t.sourcesLocked(s)...)
		}
		src, dst = sortedPrefixes(src), sortedPrefixes(dst)
		if len(src) == 0 || len(dst) == 0 {
			continue
		}
		for _, p := range r.ports {
			fr := tailcfg.FilterRule{IPProto: p.protos}
			for _, s := range src {
				fr.SrcIPs = append(fr.SrcIPs, s.String())
			}
			for _, d := range dst {
				fr.DstPorts = append(fr.DstPorts, tailcfg.NetPortRange{IP: d.String(), Ports: p.rng()})
			}
			out = append(out, fr)
		}
	}
	return out
}

// mayReachLocked reports whether any grant lets a open a connection to b or what b routes.
func (t *Tailnet) mayReachLocked(a, b *node) bool {
	return slices.ContainsFunc(t.grants, func(r rule) bool {
		return t.isSourceLocked(r.src, a) && slices.ContainsFunc(r.dst, func(s selector) bool {
			return len(t.destinationsLocked(s, b)) > 0
		})
	})
}

// mayExitLocked reports whether a may use exit nodes.
func (t *Tailnet) mayExitLocked(a *node) bool {
	return slices.ContainsFunc(t.grants, func(r rule) bool {
		return t.isSourceLocked(r.src, a) && slices.ContainsFunc(r.dst, func(s selector) bool { return s.internet || s.all })
	})
}
