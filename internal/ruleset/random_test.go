package ruleset

import (
	"math/rand/v2"
	"net/netip"
)

// RandomRules returns n rules, the same on each call.
func RandomRules(n int) []Rule {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]Rule, n)
	for i := range out {
		out[i] = randomRule(r)
	}
	return out
}

func parseAll(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// randomRule is one that Validate accepts in a filter chain at forward, or nearly.
func randomRule(r *rand.Rand) Rule {
	list := parseAll("10.0.0.0/8", "192.168.1.1/32", "128.0.0.0/1", "0.0.0.0/0", "fd00::/8", "fe80::1/128", "::/0", "8000::/1")
	some := func() []netip.Prefix {
		var out []netip.Prefix
		for len(out) == 0 || r.IntN(2) == 0 {
			out = append(out, list[r.IntN(len(list))])
		}
		return out
	}
	matches := []func() Match{
		func() Match { return IifPrefix("tg") },
		func() Match { return Oif("eth0") },
		func() Match { return Mark(2, 3) },
		func() Match { return CTMark(1, 1) },
		func() Match { return CTState(State(1 << r.IntN(4))) },
		func() Match { return SrcIn(some()...) },
		func() Match { return DstIn(some()...) },
		func() Match { return OfFamily([]Family{V4, V6}[r.IntN(2)]) },
		func() Match { return L4Proto(TCP) },
		func() Match { return TCPSyn() },
		func() Match { return DstPort(TCP, 53) },
		func() Match { return FibDstLocal() },
	}
	actions := []Action{
		{}, Accept(), Reject(), ClampMSS(), RestoreMark(1), SetMark(1, 1),
		SetMark(1, 3), SetCTMark(5, ^uint32(0)),
	}
	out := Rule{Action: actions[r.IntN(len(actions))], Counter: r.IntN(2) == 0, Comment: []string{"", "why"}[r.IntN(2)]}
	for r.IntN(4) > 0 {
		m := matches[r.IntN(len(matches))]()
		m.Not = r.IntN(2) == 0
		out.Matches = append(out.Matches, m)
	}
	return out
}
