package ruleset_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

var update = flag.Bool("update", false, "write the golden files")

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func rule(a ruleset.Action, m ...ruleset.Match) ruleset.Rule {
	return ruleset.Rule{Matches: m, Action: a}
}

func chain(t ruleset.Type, h ruleset.Hook, priority int, rules ...ruleset.Rule) ruleset.Chain {
	return ruleset.Chain{
		Name: string(t) + "-" + string(h), Type: t, Hook: h, Priority: priority, Policy: ruleset.PolicyAccept, Rules: rules,
	}
}

// every uses every match, negated too, and every action.
func every(name string) ruleset.Table {
	mixed := prefixes("100.64.0.0/10", "169.254.169.254/32", "fd7a:115c:a1e0::/48", "fe80::/10")
	mark := ruleset.Rule{
		Matches: []ruleset.Match{ruleset.IifPrefix("tg"), ruleset.Not(ruleset.IifPrefix("tgx"))},
		Action:  ruleset.SetMark(0x0100_0000, 0x0100_0000), Counter: true, Comment: "from-member",
	}
	pre := chain(ruleset.TypeFilter, ruleset.HookPrerouting, ruleset.PriorityMangle, mark,
		rule(ruleset.SetMark(7, ^uint32(0)), ruleset.Iif("eth0"), ruleset.Mark(0, ^uint32(0))),
		rule(ruleset.SetCTMark(0x0200_0000, 0x0300_0000), ruleset.Not(ruleset.Iif("eth0")), ruleset.CTState(ruleset.StateNew)),
		rule(ruleset.SetCTMark(1, ^uint32(0)), ruleset.Not(ruleset.FibDstLocal())),
		rule(ruleset.RestoreMark(0x0200_0000), ruleset.FibDstLocal()),
		ruleset.Rule{Action: ruleset.RestoreMark(1), Counter: true, Comment: "restored"},
		rule(ruleset.Return(), ruleset.Mark(1, 0xff), ruleset.Not(ruleset.CTMark(2, 0xff)), ruleset.Not(ruleset.Mark(3, ^uint32(0)))))
	forward := chain(ruleset.TypeFilter, ruleset.HookForward, ruleset.PriorityFilter,
		rule(ruleset.Accept(), ruleset.CTState(ruleset.StateEstablished, ruleset.StateRelated)),
		rule(ruleset.Drop(), ruleset.Not(ruleset.CTState(ruleset.StateNew, ruleset.StateUntracked)), ruleset.Not(ruleset.CTState(ruleset.StateInvalid))),
		rule(ruleset.ClampMSS(), ruleset.TCPSyn()),
		rule(ruleset.Accept(), ruleset.Not(ruleset.TCPSyn())),
		ruleset.Rule{Matches: []ruleset.Match{ruleset.OifPrefix("tail")}, Counter: true, Comment: "counted only"},
		rule(ruleset.Accept(), ruleset.DstIn(mixed...), ruleset.Not(ruleset.OifPrefix("eth"))),
		rule(ruleset.Accept(), ruleset.SrcIn(prefixes("10.0.0.1/32", "fd00::1/128")...), ruleset.Not(ruleset.DstIn(mixed...))),
		ruleset.Rule{Matches: []ruleset.Match{ruleset.Not(ruleset.SrcIn(prefixes("10.0.0.0/8")...)), ruleset.Oif("eth0")}, Action: ruleset.Drop(), Counter: true, Comment: "v4-or-any-v6"},
		rule(ruleset.Accept(), ruleset.Not(ruleset.DstIn(prefixes("fd00::/8")...)), ruleset.Not(ruleset.Oif("eth1"))),
		rule(ruleset.Accept(), ruleset.OfFamily(ruleset.V4), ruleset.Not(ruleset.DstIn(mixed[:2]...))),
		rule(ruleset.Accept(), ruleset.OfFamily(ruleset.V6), ruleset.L4Proto(ruleset.ICMPv6)),
		rule(ruleset.Accept(), ruleset.L4Proto(ruleset.ICMP)),
		rule(ruleset.Accept(), ruleset.Not(ruleset.L4Proto(ruleset.UDP)), ruleset.SrcIn(prefixes("0.0.0.0/0")...)),
		rule(ruleset.Accept(), ruleset.L4Proto(ruleset.TCP), ruleset.DstPort(ruleset.TCP, 443), ruleset.TCPSyn()),
		rule(ruleset.Accept(), ruleset.Not(ruleset.DstPort(ruleset.UDP, 53))),
		rule(ruleset.Reject(), ruleset.DstIn(prefixes("255.0.0.0/8", "128.0.0.0/2", "ff00::/8", "::/3")...)))
	forward.Policy = ruleset.PolicyDrop
	return ruleset.Table{Name: name, Chains: []ruleset.Chain{
		pre, forward,
		chain(ruleset.TypeFilter, ruleset.HookInput, ruleset.PriorityRaw),
		chain(ruleset.TypeRoute, ruleset.HookOutput, ruleset.PriorityMangle, rule(ruleset.RestoreMark(1<<31))),
		chain(ruleset.TypeNAT, ruleset.HookPrerouting, ruleset.PriorityDNAT,
			rule(ruleset.DNAT(netip.MustParseAddrPort("169.254.64.1:53")), ruleset.DstPort(ruleset.UDP, 53)),
			rule(ruleset.DNAT(netip.MustParseAddrPort("[fd2c::1]:53")), ruleset.Iif("eth0"), ruleset.DstIn(mixed[2:]...), ruleset.DstPort(ruleset.TCP, 53)),
			rule(ruleset.DNAT(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 0)))),
		chain(ruleset.TypeNAT, ruleset.HookPostrouting, ruleset.PrioritySNAT,
			rule(ruleset.Masquerade(), ruleset.Oif("tailscale0"), ruleset.Mark(1, 1))),
	}}
}

func TestGolden(t *testing.T) {
	got := every("golden").String()
	path := filepath.Join("testdata", "every.nft")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the text of the table changed (-golden +now; -update writes it):\n%s", diff)
	}
}

func TestListsAreCanonical(t *testing.T) {
	for _, tc := range []struct{ name, want, in string }{
		{"sorted, IPv4 first", "10.0.0.0/8 192.168.0.0/16 fd00::/8", "fd00::/8 192.168.0.0/16 10.0.0.0/8"},
		{"host bits cleared", "10.0.0.0/8", "10.1.2.3/8"},
		{"covered ones left out", "10.0.0.0/8", "10.0.0.0/8 10.1.0.0/16 10.0.0.0/8"},
		{"neighbours joined", "10.0.0.0/8", "10.128.0.0/9 10.0.0.0/9"},
		{"everything", "0.0.0.0/0 ::/0", "0.0.0.0/1 128.0.0.0/1 ::/0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ruleset.SrcIn(prefixes(strings.Fields(tc.in)...)...).Addrs
			if diff := cmp.Diff(tc.want, strings.Trim(fmt.Sprint(got), "[]")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEqual(t *testing.T) {
	v4, v6 := prefixes("10.0.0.0/8"), prefixes("fd00::/8")
	accept := func(m ...ruleset.Match) ruleset.Rule { return rule(ruleset.Accept(), m...) }
	for _, tc := range []struct {
		name string
		a, b []ruleset.Rule
		want bool
	}{
		{"itself", every("x").Chains[1].Rules, every("x").Chains[1].Rules, true},
		{"a mixed list and a rule for each family", []ruleset.Rule{accept(ruleset.DstIn(append(v4, v6...)...))}, []ruleset.Rule{accept(ruleset.DstIn(v4...)), accept(ruleset.DstIn(v6...))}, true},
		{"a list made by hand", []ruleset.Rule{accept(ruleset.Match{Kind: "saddr", Addrs: prefixes("10.9.9.9/8")})}, []ruleset.Rule{accept(ruleset.SrcIn(v4...))}, true},
		{"restoring a mark, spelled out", []ruleset.Rule{rule(ruleset.RestoreMark(4))}, []ruleset.Rule{rule(ruleset.SetMark(4, 4), ruleset.CTMark(4, 4))}, true},
		{"prefixes of a family that cannot match", []ruleset.Rule{accept(ruleset.OfFamily(ruleset.V4), ruleset.Not(ruleset.DstIn(append(v4, v6...)...)))}, []ruleset.Rule{accept(ruleset.Not(ruleset.OfFamily(ruleset.V6)), ruleset.Not(ruleset.DstIn(v4...)))}, true},
		{"order of rules", []ruleset.Rule{accept(ruleset.DstIn(v6...)), accept(ruleset.DstIn(v4...))}, []ruleset.Rule{accept(ruleset.DstIn(append(v4, v6...)...))}, false},
		{"order of matches", []ruleset.Rule{accept(ruleset.Iif("a"), ruleset.Oif("b"))}, []ruleset.Rule{accept(ruleset.Oif("b"), ruleset.Iif("a"))}, false},
		{"negation", []ruleset.Rule{accept(ruleset.Iif("a"))}, []ruleset.Rule{accept(ruleset.Not(ruleset.Iif("a")))}, false},
		{"negated twice", []ruleset.Rule{accept(ruleset.Iif("a"))}, []ruleset.Rule{accept(ruleset.Not(ruleset.Not(ruleset.Iif("a"))))}, true},
		{"a prefix and a name", []ruleset.Rule{accept(ruleset.Iif("a"))}, []ruleset.Rule{accept(ruleset.IifPrefix("a"))}, false},
		{"a source and a destination", []ruleset.Rule{accept(ruleset.SrcIn(v4...))}, []ruleset.Rule{accept(ruleset.DstIn(v4...))}, false},
		{"comment", []ruleset.Rule{{Comment: "a", Counter: true}}, []ruleset.Rule{{Comment: "b", Counter: true}}, false},
		{"counter", []ruleset.Rule{{Comment: "a", Counter: true}}, []ruleset.Rule{{Comment: "a"}}, false},
		{"action", []ruleset.Rule{rule(ruleset.Drop())}, []ruleset.Rule{accept()}, false},
		{"value of an action", []ruleset.Rule{rule(ruleset.SetMark(1, 3))}, []ruleset.Rule{rule(ruleset.SetMark(2, 3))}, false},
		{"one rule more", []ruleset.Rule{accept()}, []ruleset.Rule{accept(), accept()}, false},
		{"unknown", []ruleset.Rule{{Unknown: "limit"}}, []ruleset.Rule{{Unknown: "limit"}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := func(rules []ruleset.Rule) ruleset.Table {
				return ruleset.Table{Name: "t", Chains: []ruleset.Chain{chain(ruleset.TypeFilter, ruleset.HookForward, 0, rules...)}}
			}
			a, b := table(tc.a), table(tc.b)
			if ruleset.Equal(a, b) != tc.want || ruleset.Equal(b, a) != tc.want {
				t.Errorf("Equal is not %t both ways for\n%s\n%s", tc.want, a, b)
			}
			if tc.name != "unknown" && (a.String() == b.String()) != tc.want {
				t.Errorf("the texts should be equal: %t\n%s\n%s", tc.want, a, b)
			}
		})
	}
}

func TestTablesDiffer(t *testing.T) {
	for name, change := range map[string]func(*ruleset.Table){
		"name":           func(t *ruleset.Table) { t.Name = "other" },
		"unknown":        func(t *ruleset.Table) { t.Unknown = []string{"flags 0x1"} },
		"fewer chains":   func(t *ruleset.Table) { t.Chains = t.Chains[1:] },
		"chain name":     func(t *ruleset.Table) { t.Chains[0].Name = "other" },
		"chain hook":     func(t *ruleset.Table) { t.Chains[0].Hook = ruleset.HookInput },
		"chain type":     func(t *ruleset.Table) { t.Chains[0].Type = ruleset.TypeRoute },
		"chain priority": func(t *ruleset.Table) { t.Chains[0].Priority++ },
		"chain policy":   func(t *ruleset.Table) { t.Chains[0].Policy = ruleset.PolicyDrop },
		"chain unknown":  func(t *ruleset.Table) { t.Chains[0].Unknown = "not a base chain" },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := every("t"), every("t")
			if !ruleset.Equal(a, b) {
				t.Fatal("a table is not equal to its twin")
			}
			change(&b)
			if ruleset.Equal(a, b) {
				t.Error("Equal saw no difference")
			}
		})
	}
}

func TestValidate(t *testing.T) {
	if err := every("fine").Validate(); err != nil {
		t.Fatal(err)
	}
	in := func(ty ruleset.Type, h ruleset.Hook, r ruleset.Rule) ruleset.Table {
		return ruleset.Table{Name: "t", Chains: []ruleset.Chain{chain(ty, h, 0, r)}}
	}
	forward := func(a ruleset.Action, m ...ruleset.Match) ruleset.Table {
		return in(ruleset.TypeFilter, ruleset.HookForward, rule(a, m...))
	}
	lost := chain(ruleset.TypeFilter, ruleset.HookInput, 0)
	for _, tc := range []struct {
		want  string
		table ruleset.Table
	}{
		{`table name "" must be a letter`, ruleset.Table{}},
		{`holds unknown parts (flags 0x1)`, ruleset.Table{Name: "t", Unknown: []string{"flags 0x1"}}},
		{`two chains named "filter-input"`, ruleset.Table{Name: "t", Chains: []ruleset.Chain{lost, lost}}},
		{`chain a b: the name must be`, ruleset.Table{Name: "t", Chains: []ruleset.Chain{{Name: "a b", Type: ruleset.TypeFilter, Hook: ruleset.HookInput, Policy: ruleset.PolicyDrop}}}},
		{`type "" must be filter, nat or route`, ruleset.Table{Name: "t", Chains: []ruleset.Chain{{Name: "c", Policy: ruleset.PolicyDrop}}}},
		{`a chain of type nat cannot be at hook "forward"; write one of [prerouting input output postrouting]`, in(ruleset.TypeNAT, ruleset.HookForward, rule(ruleset.Drop()))},
		{`policy "" must be accept or drop`, ruleset.Table{Name: "t", Chains: []ruleset.Chain{{Name: "c", Type: ruleset.TypeFilter, Hook: ruleset.HookInput}}}},
		{`rule 1: it is unknown (limit)`, in(ruleset.TypeFilter, ruleset.HookInput, ruleset.Rule{Unknown: "limit"})},
		{`the comment has 128 bytes; write at most 127`, in(ruleset.TypeFilter, ruleset.HookInput, ruleset.Rule{Comment: strings.Repeat("x", 128)})},
		{`without quotes`, in(ruleset.TypeFilter, ruleset.HookInput, ruleset.Rule{Comment: `say "x"`})},
		{`it matches everything and does nothing`, in(ruleset.TypeFilter, ruleset.HookInput, ruleset.Rule{})},
		{`match "" does not exist`, forward(ruleset.Drop(), ruleset.Match{})},
		{`action "explode" does not exist`, forward(ruleset.Action{Kind: "explode"})},
		{`iifname "" must be 1 to 15`, forward(ruleset.Drop(), ruleset.Iif(""))},
		{`oifname "sixteen-letters-" must be 1 to 15`, forward(ruleset.Drop(), ruleset.Oif("sixteen-letters-"))},
		{`iifname "tg*" must be`, forward(ruleset.Drop(), ruleset.Iif("tg*"))},
		{`leave out iifname "eth0"`, in(ruleset.TypeFilter, ruleset.HookOutput, rule(ruleset.Drop(), ruleset.Iif("eth0")))},
		{`leave out oifname "eth0"`, in(ruleset.TypeFilter, ruleset.HookInput, rule(ruleset.Drop(), ruleset.Oif("eth0")))},
		{`meta mark with mask 0 covers nothing`, forward(ruleset.Drop(), ruleset.Mark(0, 0))},
		{`value 0x3 has bits outside of mask 0x1`, forward(ruleset.Drop(), ruleset.CTMark(3, 1))},
		{`value 0x3 has bits outside of mask 0x1`, forward(ruleset.SetMark(3, 1))},
		{`ct state 0x0 must be one or more`, forward(ruleset.Drop(), ruleset.CTState())},
		{`ct state 0x10 must be one or more`, forward(ruleset.Drop(), ruleset.CTState(16))},
		{`saddr has an empty list`, forward(ruleset.Drop(), ruleset.SrcIn())},
		{`daddr: prefix ::ffff:10.0.0.0/104 is not valid`, forward(ruleset.Drop(), ruleset.DstIn(prefixes("::ffff:10.0.0.0/104")...))},
		{`daddr: prefix invalid Prefix is not valid`, forward(ruleset.Drop(), ruleset.DstIn(netip.Prefix{}))},
		{`belongs to TCP or UDP, not to protocol icmp`, forward(ruleset.Drop(), ruleset.DstPort(ruleset.ICMP, 1))},
		{`port 0 of tcp is no port`, forward(ruleset.Drop(), ruleset.DstPort(ruleset.TCP, 0))},
		{`family "ipx" must be V4 or V6`, forward(ruleset.Drop(), ruleset.OfFamily("ipx"))},
		{`it can match no packet`, forward(ruleset.Drop(), ruleset.SrcIn(prefixes("10.0.0.0/8")...), ruleset.DstIn(prefixes("fd00::/8")...))},
		{`it can match no packet`, forward(ruleset.Drop(), ruleset.OfFamily(ruleset.V6), ruleset.OfFamily(ruleset.V4))},
		{`mask 0x3 must be a single bit`, forward(ruleset.RestoreMark(3))},
		{`reject cannot be in a nat chain or at postrouting`, in(ruleset.TypeFilter, ruleset.HookPostrouting, rule(ruleset.Reject()))},
		{`masquerade must be in a chain of type nat at postrouting`, forward(ruleset.Masquerade())},
		{`clamping the MSS needs a route`, in(ruleset.TypeFilter, ruleset.HookPrerouting, rule(ruleset.ClampMSS()))},
		{`dnat must be in a chain of type nat at prerouting or output`, forward(ruleset.DNAT(netip.MustParseAddrPort("10.0.0.1:1")))},
		{`dnat to "invalid IP"`, in(ruleset.TypeNAT, ruleset.HookOutput, rule(ruleset.DNAT(netip.AddrPort{})))},
		{`dnat to a port needs a match on TCP or UDP`, in(ruleset.TypeNAT, ruleset.HookOutput, rule(ruleset.DNAT(netip.MustParseAddrPort("10.0.0.1:1"))))},
	} {
		t.Run(tc.want, func(t *testing.T) {
			err := tc.table.Validate()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got: %v", err)
			}
		})
	}
}
