package ruleset

import (
	"net/netip"

	"go4.org/netipx"
)

// matchKind says which of a Match's fields count.
type matchKind string

const (
	kindFamily  matchKind = "nfproto"
	kindIif     matchKind = "iifname"
	kindOif     matchKind = "oifname"
	kindMark    matchKind = "meta mark"
	kindCTMark  matchKind = "ct mark"
	kindCTState matchKind = "ct state"
	kindSrc     matchKind = "saddr"
	kindDst     matchKind = "daddr"
	kindL4Proto matchKind = "l4proto"
	kindSyn     matchKind = "tcp syn"
	kindDstPort matchKind = "dport"
	kindLocal   matchKind = "fib daddr type local"
)

// Match is a condition on a packet, made by one of the functions below. The zero
// value is none and is refused by [Table.Validate].
type Match struct {
	// Kind is set by the constructors.
	Kind matchKind
	// Not inverts the condition, see [Not].
	Not bool
	// Link is a link's name, or the beginning of one when Prefix is true.
	Link   string
	Prefix bool
	// Value and Mask are of the packet's or the connection's mark.
	Value, Mask uint32
	// States of the connection, any of which matches.
	States State
	// Addrs are the prefixes of either family, canonical: see [SrcIn].
	Addrs  []netip.Prefix
	Family Family
	Proto  Proto
	Port   uint16
}

// Proto is a layer 4 protocol number (IANA protocol numbers).
type Proto uint8

// Protocols.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// State is a set of connection tracking states, as bits (enum ip_conntrack_info
// by way of NF_CT_STATE_BIT in linux/netfilter/nf_conntrack_common.h).
type State uint32

// Connection tracking states.
const (
	StateInvalid     State = 1
	StateEstablished State = 2
	StateRelated     State = 4
	StateNew         State = 8
	StateUntracked   State = 64
)

// Not returns m inverted. A match that names a protocol keeps it:
// Not(DstPort(TCP, 53)) is TCP to another port, Not(TCPSyn()) TCP without an opening
// SYN. Not(DstIn(list)) matches what is in the list of neither family.
func Not(m Match) Match {
	m.Not = !m.Not
	return m
}

// OfFamily matches packets of one address family.
func OfFamily(f Family) Match { return Match{Kind: kindFamily, Family: f} }

// Iif matches packets that came in by the link of this name, at most 15 bytes.
// The link need not exist.
func Iif(name string) Match { return Match{Kind: kindIif, Link: name} }

// IifPrefix matches packets that came in by a link whose name begins so; nft
// writes "tg*" for "tg".
func IifPrefix(prefix string) Match { return Match{Kind: kindIif, Link: prefix, Prefix: true} }

// Oif matches packets that go out by the link of this name.
func Oif(name string) Match { return Match{Kind: kindOif, Link: name} }

// OifPrefix matches packets that go out by a link whose name begins so.
func OifPrefix(prefix string) Match { return Match{Kind: kindOif, Link: prefix, Prefix: true} }

// Mark matches packets whose mark, masked, is value. The mask is not 0 and covers the
// value.
func Mark(value, mask uint32) Match { return Match{Kind: kindMark, Value: value, Mask: mask} }

// CTMark matches packets of connections whose mark, masked, is value. Packets
// without a connection do not match, nor do they match Not(CTMark(…)).
func CTMark(value, mask uint32) Match { return Match{Kind: kindCTMark, Value: value, Mask: mask} }

// CTState matches packets whose connection is in any of the states.
func CTState(states ...State) Match {
	m := Match{Kind: kindCTState}
	for _, s := range states {
		m.States |= s
	}
	return m
}

// SrcIn matches packets whose source is in one of the prefixes, which may be of
// both families. They are made canonical: host bits cleared, sorted, joined where
// they overlap or touch.
func SrcIn(prefixes ...netip.Prefix) Match {
	return Match{Kind: kindSrc, Addrs: canonical(prefixes)}
}

// DstIn matches packets whose destination is in one of the prefixes, as [SrcIn].
func DstIn(prefixes ...netip.Prefix) Match {
	return Match{Kind: kindDst, Addrs: canonical(prefixes)}
}

// L4Proto matches packets of a layer 4 protocol; for IPv6 the one behind the
// extension headers.
func L4Proto(p Proto) Match { return Match{Kind: kindL4Proto, Proto: p} }

// TCPSyn matches TCP segments that have SYN and not RST: the two that open a
// connection.
func TCPSyn() Match { return Match{Kind: kindSyn} }

// DstPort matches packets of a protocol, TCP or UDP, to a port.
func DstPort(p Proto, port uint16) Match { return Match{Kind: kindDstPort, Proto: p, Port: port} }

// FibDstLocal matches packets whose destination is an address of this namespace
// (fib daddr type local).
func FibDstLocal() Match { return Match{Kind: kindLocal} }

func (m Match) isList() bool { return m.Kind == kindSrc || m.Kind == kindDst }

// canonical returns the shortest sorted list of prefixes with the same
// addresses, IPv4 first. A list with a prefix that [Table.Validate] refuses stays as it is,
// so that the message can name it.
func canonical(in []netip.Prefix) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, p := range in {
		if !validPrefix(p) {
			return in
		}
		b.AddPrefix(p.Masked())
	}
	set, err := b.IPSet()
	if err != nil {
		return in
	}
	return set.Prefixes()
}

// validPrefix refuses IPv4-mapped IPv6 too: on the wire such a packet is IPv4.
func validPrefix(p netip.Prefix) bool { return p.IsValid() && !p.Addr().Is4In6() }

func ofFamily(in []netip.Prefix, f Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if familyOf(p.Addr()) == f {
			out = append(out, p)
		}
	}
	return out
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return V4
	}
	return V6
}
