package config

import (
	"net/netip"
	"strings"

	"tailscale.com/ipn"
)

// ExitKind is the form in which a selector names an exit node.
type ExitKind string

// Forms of a selector.
const (
	// ExitNone asks for no exit node.
	ExitNone ExitKind = ""
	// ExitNamed is a StableNodeID or a MagicDNS name; only the tailnet's nodes
	// tell which.
	ExitNamed ExitKind = "named"
	// ExitIP is a tailnet address.
	ExitIP ExitKind = "ip"
	// ExitAuto leaves the choice to the engine.
	ExitAuto ExitKind = "auto"
)

// ExitNode says which exit node is wanted. The zero value is none. It can be compared.
type ExitNode struct {
	Kind ExitKind
	// Text is the selector without white space around it.
	Text string
	// IP is set for ExitIP, never an IPv4-mapped IPv6 address.
	IP netip.Addr
	// Auto is set for ExitAuto, without the prefix "auto:".
	Auto ipn.ExitNodeExpression
}

// ParseExitNode returns the exit node that s selects: a tailnet IP, a StableNodeID,
// a MagicDNS name (base or full, any case, with or without the last dot), or an
// expression as in "auto:any". "" is none. Every other string is taken for a name,
// which no node then has.
func ParseExitNode(s string) ExitNode {
	s = strings.TrimSpace(s)
	if s == "" {
		return ExitNode{}
	}
	if expr, ok := ipn.ParseAutoExitNodeString(s); ok {
		return ExitNode{Kind: ExitAuto, Text: s, Auto: expr}
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return ExitNode{Kind: ExitIP, Text: s, IP: ip.Unmap()}
	}
	return ExitNode{Kind: ExitNamed, Text: s}
}

// String returns the selector as it was written; "" for none.
func (e ExitNode) String() string { return e.Text }

// find returns the peers that e names, of the kinds ExitNamed and ExitIP.
func (e ExitNode) find(peers []Peer) []Peer {
	if e.Kind == ExitIP {
		return filter(peers, func(p Peer) bool { return p.hasIP(e.IP) })
	}
	// IDs first: a node can choose its name, but not its ID.
	if found := filter(peers, func(p Peer) bool { return string(p.StableID) == e.Text }); len(found) > 0 {
		return found
	}
	name := bareName(e.Text)
	return filter(peers, func(p Peer) bool { return p.hasName(name) })
}

// filter returns the peers that keep reports true for.
func filter(peers []Peer, keep func(Peer) bool) []Peer {
	var kept []Peer
	for _, p := range peers {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// bareName returns a DNS name in lower case, without the dot at its end.
func bareName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
