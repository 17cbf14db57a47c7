package ruleset

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// step is one expression of a kernel rule. A lookup's set is given by its contents, and its name
// left empty: the name is the kernel's business.
type step struct {
	expr.Any
	set []netip.Prefix
	// unknown names an expression that was read and is none of ours.
	unknown string
}

// reg is the register that every match loads into; a DNAT's port is in the next.
const (
	reg     = unix.NFT_REG_1
	portReg = unix.NFT_REG_2
)

// Offsets and flags of headers: RFC 791, RFC 8200 and RFC 9293, section 3.1 of each.
const (
	ip4SrcOffset, ip4DstOffset = 12, 16
	ip6SrcOffset, ip6DstOffset = 8, 24
	dstPortOffset              = 2
	tcpFlagsOffset             = 13
	tcpSyn, tcpRst             = 0x02, 0x04
	tcpOptMaxseg               = 2
)

// encode returns the expressions of a kernel rule, in the form in which the kernel gives
// them back.
func encode(f flat) []step {
	var out []step
	if f.family != "" {
		out = append(out, meta(expr.MetaKeyNFPROTO), cmpEq(false, []byte{nfproto(f.family)}))
	}
	for _, m := range f.matches {
		out = append(out, encodeMatch(m)...)
	}
	if f.counter {
		out = append(out, step{Any: &expr.Counter{}})
	}
	return append(out, encodeAction(f.action)...)
}

func encodeMatch(m Match) []step {
	switch m.Kind {
	case kindIif:
		return []step{meta(expr.MetaKeyIIFNAME), cmpEq(m.Not, linkData(m))}
	case kindOif:
		return []step{meta(expr.MetaKeyOIFNAME), cmpEq(m.Not, linkData(m))}
	case kindMark:
		return encodeMark(meta(expr.MetaKeyMARK), m)
	case kindCTMark:
		return encodeMark(ct(expr.CtKeyMARK), m)
	case kindCTState:
		// Inverted twice: "in any of the states" is "the masked bits are not zero".
		return []step{ct(expr.CtKeySTATE), bitwise(native(uint32(m.States)), native(0)), cmpEq(!m.Not, native(0))}
	case kindSrc, kindDst:
		return encodeList(m)
	case kindL4Proto:
		return l4proto(m.Not, m.Proto)
	case kindSyn:
		return append(l4proto(false, TCP), payload(expr.PayloadBaseTransportHeader, tcpFlagsOffset, 1),
			bitwise([]byte{tcpSyn | tcpRst}, []byte{0}), cmpEq(m.Not, []byte{tcpSyn}))
	case kindDstPort:
		return append(l4proto(false, m.Proto), payload(expr.PayloadBaseTransportHeader, dstPortOffset, 2),
			cmpEq(m.Not, binary.BigEndian.AppendUint16(nil, m.Port)))
	case kindLocal:
		return []step{
			{Any: &expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true}},
			cmpEq(m.Not, native(unix.RTN_LOCAL)),
		}
	}
	return nil
}

// linkData: a whole name is compared with its padding, a prefix without.
func linkData(m Match) []byte {
	if m.Prefix {
		return []byte(m.Link)
	}
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, m.Link)
	return data
}

func encodeMark(load step, m Match) []step {
	if m.Mask == ^uint32(0) {
		return []step{load, cmpEq(m.Not, native(m.Value))}
	}
	return []step{load, bitwise(native(m.Mask), native(0)), cmpEq(m.Not, native(m.Value))}
}

// encodeList compares a single prefix directly, which is cheaper for every packet than a set.
func encodeList(m Match) []step {
	p := m.Addrs[0]
	load := payload(expr.PayloadBaseNetworkHeader, addrOffset(m.Kind, familyOf(p.Addr())), uint32(p.Addr().BitLen()/8))
	switch {
	case len(m.Addrs) > 1:
		return []step{load, {Any: &expr.Lookup{SourceRegister: reg, Invert: m.Not}, set: m.Addrs}}
	case p.IsSingleIP():
		return []step{load, cmpEq(m.Not, p.Addr().AsSlice())}
	}
	mask := make([]byte, p.Addr().BitLen()/8)
	return []step{load, bitwise(maskOf(p), mask), cmpEq(m.Not, p.Addr().AsSlice())}
}

func addrOffset(k matchKind, f Family) uint32 {
	switch {
	case k == kindSrc && f == V4:
		return ip4SrcOffset
	case k == kindDst && f == V4:
		return ip4DstOffset
	case k == kindSrc:
		return ip6SrcOffset
	}
	return ip6DstOffset
}

func maskOf(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

func encodeAction(a Action) []step {
	switch a.Kind {
	case kindAccept:
		return []step{{Any: &expr.Verdict{Kind: expr.VerdictAccept}}}
	case kindDrop:
		return []step{{Any: &expr.Verdict{Kind: expr.VerdictDrop}}}
	case kindReturn:
		return []step{{Any: &expr.Verdict{Kind: expr.VerdictReturn}}}
	case kindReject:
		return []step{{Any: &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}}
	case kindSetMark:
		set := step{Any: &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg}}
		return encodeSet(meta(expr.MetaKeyMARK), set, a)
	case kindSetCTMark:
		set := step{Any: &expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: reg}}
		return encodeSet(ct(expr.CtKeyMARK), set, a)
	case kindMasquerade:
		return []step{{Any: &expr.Masq{}}}
	case kindClampMSS:
		return []step{
			{Any: &expr.Rt{Register: reg, Key: expr.RtTCPMSS}},
			{Any: &expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 2, Size: 2}},
			{Any: &expr.Exthdr{SourceRegister: reg, Type: tcpOptMaxseg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt}},
		}
	case kindDNAT:
		return encodeDNAT(a.To)
	}
	return nil
}

func encodeSet(load, set step, a Action) []step {
	if a.Mask == ^uint32(0) {
		return []step{{Any: &expr.Immediate{Register: reg, Data: native(a.Value)}}, set}
	}
	return []step{load, bitwise(native(^a.Mask), native(a.Value)), set}
}

func encodeDNAT(to netip.AddrPort) []step {
	nat := &expr.NAT{
		Type:       expr.NATTypeDestNAT,
		Family:     uint32(nfproto(familyOf(to.Addr()))),
		RegAddrMin: reg,
		RegAddrMax: reg, // the kernel fills it in, so it is said
	}
	out := []step{{Any: &expr.Immediate{Register: reg, Data: to.Addr().AsSlice()}}}
	if to.Port() != 0 {
		out = append(out, step{Any: &expr.Immediate{Register: portReg, Data: binary.BigEndian.AppendUint16(nil, to.Port())}})
		nat.RegProtoMin, nat.RegProtoMax, nat.Specified = portReg, portReg, true
	}
	return append(out, step{Any: nat})
}

func meta(k expr.MetaKey) step { return step{Any: &expr.Meta{Key: k, Register: reg}} }

func ct(k expr.CtKey) step { return step{Any: &expr.Ct{Key: k, Register: reg}} }

func cmpEq(not bool, data []byte) step {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return step{Any: &expr.Cmp{Op: op, Register: reg, Data: data}}
}

func bitwise(mask, xor []byte) step {
	return step{Any: &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)), Mask: mask, Xor: xor}}
}

func payload(base expr.PayloadBase, offset, length uint32) step {
	return step{Any: &expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}}
}

func l4proto(not bool, p Proto) []step {
	return []step{meta(expr.MetaKeyL4PROTO), cmpEq(not, []byte{byte(p)})}
}

func nfproto(f Family) byte {
	if f == V4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// native: marks, states and route types are in the host's byte order in a register.
func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
