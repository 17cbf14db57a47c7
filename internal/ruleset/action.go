package ruleset

import "net/netip"

type actionKind string

const (
	kindNothing     actionKind = ""
	kindAccept      actionKind = "accept"
	kindDrop        actionKind = "drop"
	kindReturn      actionKind = "return"
	kindReject      actionKind = "reject"
	kindSetMark     actionKind = "set mark"
	kindSetCTMark   actionKind = "set ct mark"
	kindRestoreMark actionKind = "restore mark"
	kindMasquerade  actionKind = "masquerade"
	kindClampMSS    actionKind = "clamp mss"
	kindDNAT        actionKind = "dnat"
)

// Action is what a rule does, made by one of the functions below. The zero value
// does nothing, which suits a rule that only counts. Actions are comparable.
type Action struct {
	// Kind is set by the constructors.
	Kind actionKind
	// Value and Mask are of a mark.
	Value, Mask uint32
	// To is where DNAT sends a connection.
	To netip.AddrPort
}

// Accept ends the hook's chain for the packet: it goes on its way.
func Accept() Action { return Action{Kind: kindAccept} }

// Drop ends the packet, silently.
func Drop() Action { return Action{Kind: kindDrop} }

// Return leaves the chain; in a base chain its policy applies.
func Return() Action { return Action{Kind: kindReturn} }

// Reject ends the packet and tells its sender by ICMP or ICMPv6 "administratively
// prohibited" (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1), so that an
// application fails at once.
func Reject() Action { return Action{Kind: kindReject} }

// SetMark sets the bits of the packet's mark that mask covers to value; the
// other bits stay. The packet goes on.
func SetMark(value, mask uint32) Action { return Action{Kind: kindSetMark, Value: value, Mask: mask} }

// SetCTMark does the same with the mark of the packet's connection.
func SetCTMark(value, mask uint32) Action {
	return Action{Kind: kindSetCTMark, Value: value, Mask: mask}
}

// RestoreMark sets the one bit of mask in the packet's mark if the connection's
// mark has it: mark |= ctmark & mask. The rule matches, and counts, only packets
// where it has. One bit, because a kernel before 6.13 cannot "or" two registers
// (nf_tables, "bitwise: add support for doing AND, OR and XOR directly").
func RestoreMark(mask uint32) Action { return Action{Kind: kindRestoreMark, Mask: mask} }

// Masquerade replaces the source of connections by the address of the link they leave
// on, both families. In nat chains at postrouting.
func Masquerade() Action { return Action{Kind: kindMasquerade} }

// ClampMSS lowers the MSS option of a SYN to what the route's MTU carries, in
// both directions of the route; it never raises or adds one. At forward, output and
// postrouting, behind a [TCPSyn] match.
func ClampMSS() Action { return Action{Kind: kindClampMSS} }

// DNAT sends connections to another address, and to another port unless the port is 0. The
// rule applies to packets of the address's family only. In nat chains at
// prerouting and output.
func DNAT(to netip.AddrPort) Action { return Action{Kind: kindDNAT, To: to} }
