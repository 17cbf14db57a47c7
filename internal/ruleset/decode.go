package ruleset

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// decode returns the kernel rule that the steps are. It guesses, looking at no
// more than tells one match from another, and believes its guess only when encoding it gives
// the same steps: whatever it did not look at must be as we would have written it.
func decode(steps []step, comment string) flat {
	f := guess(steps)
	f.comment = comment
	if f.unknown == "" && !(sameSteps(encode(f), steps) && same(flatten(liftOne(f)), []flat{f})) {
		f = flat{comment: comment, unknown: names(steps)}
	}
	return f
}

// names says of which expressions an unknown rule is made.
func names(steps []step) string {
	words := make([]string, len(steps))
	for i, s := range steps {
		words[i] = s.unknown
		if s.unknown == "" {
			words[i] = strings.ToLower(strings.TrimPrefix(reflect.TypeOf(s.Any).String(), "*expr."))
		}
	}
	return strings.Join(words, " ")
}

func sameSteps(a, b []step) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

func guess(steps []step) flat {
	var f flat
	rest := steps
	if key, data, n := metaCmp(rest); n > 0 && key == expr.MetaKeyNFPROTO && len(data) == 1 {
		f.family, rest = V6, rest[n:]
		if data[0] == unix.NFPROTO_IPV4 {
			f.family = V4
		}
	}
	for {
		m, n := guessMatch(rest)
		if n == 0 {
			break
		}
		f.matches, rest = append(f.matches, m), rest[n:]
	}
	if _, ok := at[*expr.Counter](rest, 0); ok {
		f.counter, rest = true, rest[1:]
	}
	var ok bool
	if f.action, ok = guessAction(rest); !ok {
		return flat{unknown: names(steps)}
	}
	return f
}

// at returns the expression at i if there is one and it is a T.
func at[T expr.Any](steps []step, i int) (T, bool) {
	var zero T
	if i >= len(steps) {
		return zero, false
	}
	e, ok := steps[i].Any.(T)
	return e, ok
}

// metaCmp returns the key that is loaded and the data that it is compared with.
func metaCmp(s []step) (expr.MetaKey, []byte, int) {
	load, ok := at[*expr.Meta](s, 0)
	cmp, ok2 := at[*expr.Cmp](s, 1)
	if !ok || !ok2 {
		return 0, nil, 0
	}
	return load.Key, cmp.Data, 2
}

// guessMatch returns the match that s begins with and how many steps it takes; 0: none.
func guessMatch(s []step) (Match, int) {
	m, n := guessPositive(s)
	if n == 0 {
		return m, 0
	}
	switch last := s[n-1].Any.(type) {
	case *expr.Cmp:
		m.Not = (last.Op == expr.CmpOpNeq) != (m.Kind == kindCTState)
	case *expr.Lookup:
		m.Not = last.Invert
	}
	return m, n
}

func guessPositive(s []step) (Match, int) {
	if len(s) == 0 {
		return Match{}, 0
	}
	switch load := s[0].Any.(type) {
	case *expr.Meta:
		if load.Key == expr.MetaKeyMARK {
			return guessMark(kindMark, s)
		}
		return guessMeta(s)
	case *expr.Ct:
		if load.Key == expr.CtKeyMARK {
			return guessMark(kindCTMark, s)
		}
		return guessState(s)
	case *expr.Payload:
		return guessList(load, s)
	case *expr.Fib:
		if _, ok := at[*expr.Cmp](s, 1); ok {
			return FibDstLocal(), 2
		}
	}
	return Match{}, 0
}

func guessMeta(s []step) (Match, int) {
	key, data, n := metaCmp(s)
	switch {
	case n == 0 || len(data) == 0:
		return Match{}, 0
	case key == expr.MetaKeyIIFNAME:
		return guessLink(kindIif, data), n
	case key == expr.MetaKeyOIFNAME:
		return guessLink(kindOif, data), n
	case key == expr.MetaKeyL4PROTO:
		return guessProto(Proto(data[0]), s)
	}
	return Match{}, 0
}

func guessLink(k matchKind, data []byte) Match {
	return Match{Kind: k, Link: strings.TrimRight(string(data), "\x00"), Prefix: len(data) < unix.IFNAMSIZ}
}

// guessProto: a look into the transport header belongs to the protocol before it.
func guessProto(p Proto, s []step) (Match, int) {
	if load, ok := at[*expr.Payload](s, 2); ok && load.Base == expr.PayloadBaseTransportHeader {
		if cmp, ok := at[*expr.Cmp](s, 3); ok && len(cmp.Data) == 2 {
			return DstPort(p, binary.BigEndian.Uint16(cmp.Data)), 4
		}
		if _, ok := at[*expr.Cmp](s, 4); ok {
			return TCPSyn(), 5
		}
	}
	return L4Proto(p), 2
}

func guessMark(k matchKind, s []step) (Match, int) {
	m := Match{Kind: k, Mask: ^uint32(0)}
	n := 1
	if b, ok := at[*expr.Bitwise](s, n); ok && len(b.Mask) == 4 {
		m.Mask = binary.NativeEndian.Uint32(b.Mask)
		n++
	}
	cmp, ok := at[*expr.Cmp](s, n)
	if !ok || len(cmp.Data) != 4 {
		return Match{}, 0
	}
	m.Value = binary.NativeEndian.Uint32(cmp.Data)
	return m, n + 1
}

func guessState(s []step) (Match, int) {
	b, ok := at[*expr.Bitwise](s, 1)
	_, ok2 := at[*expr.Cmp](s, 2)
	if !ok || !ok2 || len(b.Mask) != 4 {
		return Match{}, 0
	}
	return CTState(State(binary.NativeEndian.Uint32(b.Mask))), 3
}

func guessList(load *expr.Payload, s []step) (Match, int) {
	m := Match{Kind: kindDst}
	if load.Offset == ip4SrcOffset || load.Offset == ip6SrcOffset {
		m.Kind = kindSrc
	}
	if _, ok := at[*expr.Lookup](s, 1); ok {
		m.Addrs = s[1].set
		if len(m.Addrs) < 2 {
			return Match{}, 0
		}
		return m, 2
	}
	n, bits := 1, int(load.Len)*8
	if b, ok := at[*expr.Bitwise](s, n); ok {
		bits = ones(b.Mask)
		n++
	}
	cmp, ok := at[*expr.Cmp](s, n)
	if !ok {
		return Match{}, 0
	}
	addr, ok := netip.AddrFromSlice(cmp.Data)
	if !ok || bits > addr.BitLen() {
		return Match{}, 0
	}
	m.Addrs = []netip.Prefix{netip.PrefixFrom(addr, bits)}
	return m, n + 1
}

// ones counts the leading ones of a mask.
func ones(mask []byte) int {
	n := 0
	for n < len(mask)*8 && mask[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	return n
}

func guessAction(s []step) (Action, bool) {
	if len(s) == 0 {
		return Action{}, true
	}
	switch e := s[0].Any.(type) {
	case *expr.Verdict:
		return guessVerdict(e), true
	case *expr.Reject:
		return Reject(), true
	case *expr.Masq:
		return Masquerade(), true
	case *expr.Rt:
		return ClampMSS(), true
	case *expr.Immediate:
		return guessImmediate(e, s)
	case *expr.Meta, *expr.Ct:
		b, ok := at[*expr.Bitwise](s, 1)
		if !ok || len(b.Mask) != 4 || len(b.Xor) != 4 {
			return Action{}, false
		}
		return guessSet(s[len(s)-1], binary.NativeEndian.Uint32(b.Xor), ^binary.NativeEndian.Uint32(b.Mask))
	}
	return Action{}, false
}

func guessVerdict(v *expr.Verdict) Action {
	switch v.Kind {
	case expr.VerdictAccept:
		return Accept()
	case expr.VerdictReturn:
		return Return()
	}
	return Drop()
}

func guessSet(last step, value, mask uint32) (Action, bool) {
	switch last.Any.(type) {
	case *expr.Meta:
		return SetMark(value, mask), true
	case *expr.Ct:
		return SetCTMark(value, mask), true
	}
	return Action{}, false
}

func guessImmediate(e *expr.Immediate, s []step) (Action, bool) {
	if _, ok := s[len(s)-1].Any.(*expr.NAT); !ok {
		if len(e.Data) != 4 {
			return Action{}, false
		}
		return guessSet(s[len(s)-1], binary.NativeEndian.Uint32(e.Data), ^uint32(0))
	}
	addr, ok := netip.AddrFromSlice(e.Data)
	if !ok {
		return Action{}, false
	}
	var port uint16
	if p, ok := at[*expr.Immediate](s, 1); ok && len(p.Data) == 2 {
		port = binary.BigEndian.Uint16(p.Data)
	}
	return DNAT(netip.AddrPortFrom(addr, port)), true
}
