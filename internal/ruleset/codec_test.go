package ruleset

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"
)

// Decode is the inverse of encode for whatever rules there are, and what it gives makes
// the same kernel rules.
func TestDecodeInvertsEncode(t *testing.T) {
	for _, r := range RandomRules(5000) {
		flats := flatten(r)
		var back []flat
		for _, f := range flats {
			back = append(back, decode(encode(f), f.comment))
		}
		if !same(flats, back) {
			t.Fatalf("%s\ndecoded as\n%s", flats, back)
		}
		if again := flattenAll(lift(back)); !same(flats, again) {
			t.Fatalf("%s\njoined as\n%s\nmakes\n%s", flats, lift(back), again)
		}
	}
}

// An expression that is left out, doubled, or of another kind, and a change of any of
// them that decode does not look at, makes a rule unknown or another rule; never the same.
func TestDecodeMissesNothing(t *testing.T) {
	for _, r := range RandomRules(300) {
		for _, f := range flatten(r) {
			for i := range encode(f) {
				for name, steps := range mutations(f, i) {
					if got := decode(steps, f.comment); got.equal(f) {
						t.Fatalf("%s\nwith step %d %s still reads as itself", f, i, name)
					}
				}
			}
		}
	}
}

func mutations(f flat, i int) map[string][]step {
	cut := encode(f)
	out := map[string][]step{
		"left out": append(cut[:i:i], cut[i+1:]...),
		"doubled":  append(append(cut[:i+1:i+1], cut[i]), cut[i+1:]...),
	}
	foreign := encode(f)
	foreign[i] = step{unknown: "limit"}
	out["replaced"] = foreign
	change := func(name string, do func(step)) {
		s := encode(f)
		do(s[i])
		out[name] = s
	}
	switch cut[i].Any.(type) {
	case *expr.Cmp:
		change("on another register", func(s step) { s.Any.(*expr.Cmp).Register++ })
		change("less than", func(s step) { s.Any.(*expr.Cmp).Op = expr.CmpOpLt })
	case *expr.Bitwise:
		change("to another register", func(s step) { s.Any.(*expr.Bitwise).DestRegister++ })
		change("with another mask", func(s step) { s.Any.(*expr.Bitwise).Mask[0] ^= 0x55 })
	case *expr.Payload:
		change("at another offset", func(s step) { s.Any.(*expr.Payload).Offset++ })
		change("in another header", func(s step) { s.Any.(*expr.Payload).Base = expr.PayloadBaseLLHeader })
	case *expr.Meta:
		change("of another key", func(s step) { s.Any.(*expr.Meta).Key = expr.MetaKeyCPU })
	case *expr.Ct:
		change("of another key", func(s step) { s.Any.(*expr.Ct).Key = expr.CtKeySTATUS })
	case *expr.Reject:
		change("with another code", func(s step) { s.Any.(*expr.Reject).Code = 0 })
	case *expr.Rt:
		change("of another key", func(s step) { s.Any.(*expr.Rt).Key = expr.RtClassid })
	case *expr.Exthdr:
		change("of another option", func(s step) { s.Any.(*expr.Exthdr).Type++ })
	}
	return out
}

func TestCommentsOfOthers(t *testing.T) {
	for _, tc := range []struct {
		name, in, want string
	}{
		{"none", "", ""},
		{"ours", "\x00\x04why\x00", "why"},
		{"behind another", "\x01\x02ab\x00\x02x\x00", "x"},
		{"longer than the data", "\x00\xffwhy", ""},
		{"without a length", "\x00", ""},
		{"empty", "\x00\x00", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, parseComment([]byte(tc.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
