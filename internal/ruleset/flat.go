package ruleset

import (
	"math/bits"
	"net/netip"
	"reflect"
	"slices"
)

// flat is a rule in the form of one kernel rule: of one family or of both, its
// address lists of that family, canonical and not empty, and no RestoreMark.
type flat struct {
	family  Family // "": both
	matches []Match
	action  Action
	counter bool
	comment string
	unknown string
}

func flattenAll(rules []Rule) []flat {
	var out []flat
	for _, r := range rules {
		out = append(out, flatten(r)...)
	}
	return out
}

// flatten returns the kernel rules that r becomes: one, or one for each family
// that it can match.
func flatten(r Rule) []flat {
	r = withoutRestore(r)
	if r.Unknown != "" || !splits(r) {
		return []flat{{matches: r.Matches, action: r.Action, counter: r.Counter, comment: r.Comment, unknown: r.Unknown}}
	}
	var out []flat
	for _, f := range families() {
		if matches, ok := within(r, f); ok {
			out = append(out, flat{family: f, matches: matches, action: r.Action, counter: r.Counter, comment: r.Comment})
		}
	}
	return out
}

// splits says whether something in r is said of one family.
func splits(r Rule) bool {
	return r.Action.Kind == kindDNAT || slices.ContainsFunc(r.Matches, func(m Match) bool {
		return m.isList() || m.Kind == kindFamily
	})
}

// within returns what is left of r's matches for packets of family f, and
// whether such packets can match at all.
func within(r Rule, f Family) ([]Match, bool) {
	if r.Action.Kind == kindDNAT && familyOf(r.Action.To.Addr()) != f {
		return nil, false
	}
	var out []Match
	for _, m := range r.Matches {
		switch {
		case m.Kind == kindFamily:
			if (m.Family == f) == m.Not {
				return nil, false
			}
			continue
		case m.isList():
			m.Addrs = ofFamily(canonical(m.Addrs), f)
			if len(m.Addrs) == 0 {
				if m.Not {
					continue // in no list of this family: every packet is outside
				}
				return nil, false
			}
		}
		out = append(out, m)
	}
	return out, true
}

// withoutRestore writes RestoreMark as what the kernel does: it matches the one bit and
// sets it.
func withoutRestore(r Rule) Rule {
	if r.Action.Kind == kindRestoreMark {
		bit := r.Action.Mask
		r.Matches = append(slices.Clone(r.Matches), CTMark(bit, bit))
		r.Action = SetMark(bit, bit)
	}
	return r
}

// lift is the inverse of flatten over the rules of a chain: it joins neighbours that
// one rule with lists of both families would make.
func lift(flats []flat) []Rule {
	var out []Rule
	for i := 0; i < len(flats); i++ {
		if i+1 < len(flats) {
			if r, ok := join(flats[i], flats[i+1]); ok {
				out = append(out, r)
				i++
				continue
			}
		}
		out = append(out, liftOne(flats[i]))
	}
	return out
}

func liftOne(f flat) Rule {
	r := withRestore(f.rule(f.matches))
	if f.unknown != "" || same(flatten(r), []flat{f}) {
		return r
	}
	r.Matches = append([]Match{OfFamily(f.family)}, r.Matches...)
	return r
}

func (f flat) rule(matches []Match) Rule {
	return Rule{Matches: matches, Action: f.action, Counter: f.counter, Comment: f.comment, Unknown: f.unknown}
}

func withRestore(r Rule) Rule {
	n := len(r.Matches)
	a := r.Action
	if a.Kind != kindSetMark || a.Value != a.Mask || bits.OnesCount32(a.Mask) != 1 ||
		n == 0 || !reflect.DeepEqual(r.Matches[n-1], CTMark(a.Mask, a.Mask)) {
		return r
	}
	r.Matches = slices.Clone(r.Matches[:n-1])
	if n == 1 {
		r.Matches = nil
	}
	r.Action = RestoreMark(a.Mask)
	return r
}

// join returns the one rule that makes both kernel rules, if there is one.
func join(a, b flat) (Rule, bool) {
	if a.family != V4 || b.family != V6 {
		return Rule{}, false
	}
	var matches []Match
	x, y := a.matches, b.matches
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(x) > 0 && len(y) > 0 && reflect.DeepEqual(x[0], y[0]):
			matches, x, y = append(matches, x[0]), x[1:], y[1:]
		case len(x) > 0 && len(y) > 0 && x[0].isList() && x[0].Kind == y[0].Kind && x[0].Not == y[0].Not:
			both := x[0]
			both.Addrs = slices.Concat[[]netip.Prefix](x[0].Addrs, y[0].Addrs)
			matches, x, y = append(matches, both), x[1:], y[1:]
		case len(x) > 0 && x[0].isList() && x[0].Not:
			matches, x = append(matches, x[0]), x[1:]
		case len(y) > 0 && y[0].isList() && y[0].Not:
			matches, y = append(matches, y[0]), y[1:]
		default:
			return Rule{}, false
		}
	}
	r := withRestore(a.rule(matches))
	return r, same(flatten(r), []flat{a, b})
}

func same(a, b []flat) bool { return slices.EqualFunc(a, b, flat.equal) }
