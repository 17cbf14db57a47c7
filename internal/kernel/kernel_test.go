//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/test/script"
)

// bed is a member's and a gateway's namespace, made by the test.
type bed struct {
	member, gateway *netns.Handle
	n               *kernel.Namespace // member, with its peers in gateway
}

func newBed(t *testing.T) bed {
	t.Helper()
	b := bed{member: nstest.New(t), gateway: nstest.New(t)}
	b.n = open(t, b.member, b.gateway)
	return b
}

func open(t *testing.T, ns, peer *netns.Handle) *kernel.Namespace {
	t.Helper()
	n, err := kernel.Open(ns, kernel.Options{Peer: peer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// run runs a command line in a namespace and returns what it prints. It is iproute2
// that tampers and looks, so that the code under test is not its own witness.
func run(t *testing.T, ns *netns.Handle, line string) string {
	t.Helper()
	return script.Run(t, ns, line)
}

func observe(t *testing.T, n *kernel.Namespace, scope netstate.Scope) netstate.State {
	t.Helper()
	s, err := n.Observe(scope)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reconcile brings want about and returns the plan that did.
func reconcile(t *testing.T, n *kernel.Namespace, scope netstate.Scope, want netstate.State) netstate.Plan {
	t.Helper()
	plan := netstate.Diff(observe(t, n, scope), want)
	if err := n.Apply(plan); err != nil {
		t.Fatalf("%v\nplan:\n%v", err, plan)
	}
	if rest := netstate.Diff(observe(t, n, scope), want); !rest.Empty() {
		t.Fatalf("after\n%v\nstill to do\n%v", plan, rest)
	}
	return plan
}

var memberScope = netstate.Scope{
	Links: []string{ident.MemberLink}, Tables: []int{ident.TableMember},
	RuleFirst: ident.RuleFirst, RuleLast: ident.RuleLast,
	Sysctls: []string{"net/ipv4/conf/ts0/rp_filter", "net/ipv4/ip_forward"},
}

// member is what a member in an exit group has, with one of everything.
func member(slot int) netstate.State {
	v4, v6 := ident.MemberAddrs(slot)
	link := ident.MemberLink
	s := netstate.State{
		Links: []netstate.Link{{
			Name: link, Kind: netstate.Veth, Alias: ident.AliasPrefix + "member", MTU: ident.MTU, TxQueueLen: 500,
			MAC: ident.MemberMAC(slot), Up: true,
			Peer: netstate.Peer{Name: ident.GatewayLink(slot), MAC: ident.GatewayMAC},
		}},
		Addrs: []netstate.Addr{{Link: link, Prefix: netip.PrefixFrom(v4, 32)}, {Link: link, Prefix: netip.PrefixFrom(v6, 128)}},
		Neighs: []netstate.Neigh{
			{Link: link, IP: ident.GatewayV4, MAC: ident.GatewayMAC}, {Link: link, IP: ident.GatewayV6, MAC: ident.GatewayMAC},
		},
		Sysctls: []netstate.Sysctl{{Key: "net/ipv4/conf/ts0/rp_filter", Value: "2"}, {Key: "net/ipv4/ip_forward", Value: "1"}},
	}
	for _, p := range []struct {
		dst      string
		via, src netip.Addr
	}{
		{"100.64.0.0/10", ident.GatewayV4, v4}, {"0.0.0.0/0", ident.GatewayV4, v4},
		{"fd7a:115c:a1e0::/48", ident.GatewayV6, v6}, {"::/0", ident.GatewayV6, v6},
	} {
		r := netstate.Route{
			Table: ident.TableMember, Dst: netip.MustParsePrefix(p.dst), Metric: ident.MetricPreferred,
			Type: netstate.Unicast, Link: link, Via: p.via, Src: p.src,
		}
		fallback := netstate.Route{Table: r.Table, Dst: r.Dst, Metric: ident.MetricFallback, Type: netstate.Unreachable}
		s.Routes = append(s.Routes, r, fallback)
	}
	for _, family := range []netstate.Family{netstate.V4, netstate.V6} {
		s.Rules = append(s.Rules,
			netstate.Rule{Family: family, Priority: ident.RuleReply, Table: ident.TableMain, Mark: ident.MarkReply, Mask: ident.MarkReply},
			netstate.Rule{Family: family, Priority: ident.RuleMember, Table: ident.TableMember},
			netstate.Rule{Family: family, Priority: ident.RuleMember, Table: ident.TableMember, Iif: "lo"})
	}
	s.Rules = append(s.Rules,
		netstate.Rule{Family: netstate.V4, Priority: ident.RuleDirect, Table: ident.TableMain, Dst: netip.MustParsePrefix("10.0.0.0/8")},
		netstate.Rule{Family: netstate.V6, Priority: ident.RuleDirect, Table: ident.TableMain, Dst: netip.MustParsePrefix("fe80::/10")})
	return s
}

// foreign is somebody else's: in our tables, at our priorities, with our words.
const foreign = `
ip link set lo up
ip link add fd0 alias "their tailgate: not ours" type veth peer name fd1
ip link set fd0 alias "their tailgate: not ours" addrgenmode none
ip link set fd1 addrgenmode none up
ip link set fd0 up
ip addr add 192.0.2.1/24 dev fd0
ip addr add 2001:db8::1/64 dev fd0 nodad
ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev fd0 nud permanent
ip route add 100.64.0.0/10 dev fd0 table 7717 metric 50
ip route add 203.0.113.0/24 dev fd0 table 7717 metric 100 proto 4
ip -6 route add fd7a:115c:a1e0::/48 dev fd0 table 7717 metric 50
ip route add 198.51.100.0/24 dev fd0 table 100 metric 100 proto 77
ip rule add pref 7702 lookup 7717
ip rule add pref 7701 to 172.16.0.0/12 lookup 254 protocol 4
ip -6 rule add pref 7702 lookup 7717
ip rule add pref 100 lookup 7717 protocol 77
`

// all prints everything that a namespace has, with nothing that changes by itself.
func all(t *testing.T, ns *netns.Handle) string {
	t.Helper()
	// Carrier follows a link in the kernel's own time, and is nobody's doing.
	return run(t, ns, `ip -o -d link | sed 's/^[0-9]*: //; s/@if[0-9]*/@peer/; s/NO-CARRIER,//; s/,LOWER_UP//; s/,M-DOWN//; s/ state [A-Z]*//'; ip -o addr | sed 's/^[0-9]*: //'; ip neigh show nud permanent
		ip -d route show table all | grep -v "table local"; ip -6 -d route show table all | grep -v "table local"
		ip rule; ip -6 rule; cat /proc/sys/net/ipv4/conf/fd0/rp_filter`)
}

func TestMemberFromNothingAndBack(t *testing.T) {
	b := newBed(t)
	run(t, b.member, foreign)
	before := all(t, b.member)

	want := member(7)
	reconcile(t, b.n, memberScope, want)
	got := observe(t, b.n, memberScope)
	want.Links[0].Peer = netstate.Peer{} // the kernel does not tell
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if out := run(t, b.member, "ip route show dev ts0; ip -6 route show dev ts0 | sed '/^multicast/d'"); out != "" {
		t.Errorf("routes in main that nobody asked for:\n%s", out)
	}
	peer, err := open(t, b.gateway, nil).Observe(netstate.Scope{Links: []string{"tg*"}})
	if err != nil {
		t.Fatal(err)
	}
	wantPeer := netstate.Link{Name: "tg7", Kind: netstate.Veth, MTU: ident.MTU, TxQueueLen: 500, MAC: ident.GatewayMAC}
	if diff := cmp.Diff([]netstate.Link{wantPeer}, peer.Links); diff != "" {
		t.Errorf("peer (-want +got)\n%s", diff)
	}

	reconcile(t, b.n, memberScope, netstate.State{})
	if diff := cmp.Diff(before, all(t, b.member)); diff != "" {
		t.Errorf("what was there before has changed (-before +after)\n%s", diff)
	}
	if out := run(t, b.gateway, "ip -o link"); strings.Contains(out, "tg7") {
		t.Errorf("the peer is still there:\n%s", out)
	}
}

func TestTampering(t *testing.T) {
	for _, tt := range []struct{ name, tamper string }{
		{"link deleted", "ip link del ts0"},
		{"link set down", "ip link set ts0 down"},
		{"link down and up again", "ip link set ts0 down; ip link set ts0 up"},
		{"MTU", "ip link set ts0 mtu 1400"},
		{"transmit queue", "ip link set ts0 txqueuelen 1000"},
		{"MAC", "ip link set ts0 address 02:00:00:00:00:01"},
		{"alias", "ip link set ts0 alias mine"},
		{"address removed", "ip addr del 169.254.64.8/32 dev ts0"},
		{"IPv6 address removed", "ip addr del fd2c:7d4a:91e6:7717::8/128 dev ts0"},
		{"addresses flushed", "ip addr flush dev ts0"},
		{"extra addresses", "ip addr add 10.1.1.1/24 dev ts0; ip addr add 10.1.1.2/24 dev ts0; ip addr add 2001:db8:1::1/64 dev ts0"},
		{"prefix length of an IPv6 address", "ip addr del fd2c:7d4a:91e6:7717::8/128 dev ts0; ip addr add fd2c:7d4a:91e6:7717::8/64 dev ts0 nodad"},
		{"IPv6 switched off and on", "sysctl -qw net.ipv6.conf.ts0.disable_ipv6=1 net.ipv6.conf.ts0.disable_ipv6=0"},
		{"neighbour changed", "ip neigh replace 169.254.64.1 lladdr 02:00:00:00:00:01 dev ts0 nud permanent"},
		{"neighbour no more permanent", "ip neigh replace 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0 nud reachable"},
		{"neighbours flushed", "ip neigh flush nud permanent dev ts0"},
		{"extra neighbour", "ip neigh add 10.1.1.9 lladdr 02:00:00:00:00:01 dev ts0 nud permanent"},
		{"route removed", "ip route del 100.64.0.0/10 table 7717 metric 100"},
		{"fallback removed", "ip -6 route del ::/0 table 7717 metric 4096 proto 77"},
		{"tables flushed", "ip route flush table 7717 proto 77; ip -6 route flush table 7717 proto 77"},
		{"route altered: unreachable", "ip route replace unreachable default table 7717 metric 100 proto 77"},
		{"route altered: IPv6 unreachable", "ip -6 route replace unreachable default table 7717 metric 100 proto 77"},
		{"route altered: by another link", "ip route replace default dev fd0 table 7717 metric 100 proto 77; ip -6 route replace default dev fd0 table 7717 metric 100 proto 77"},
		{"route altered: no source", "ip route replace default via 169.254.64.1 onlink dev ts0 table 7717 metric 100 proto 77"},
		{"route altered: MTU", "ip route replace default via 169.254.64.1 onlink dev ts0 table 7717 metric 100 proto 77 src 169.254.64.8 mtu 1000"},
		{"fallback altered", "ip route replace default dev fd0 table 7717 metric 4096 proto 77; ip route replace blackhole 100.64.0.0/10 table 7717 metric 4096 proto 77"},
		{"IPv6 fallback altered", "ip -6 route replace blackhole default table 7717 metric 4096 proto 77"},
		{"extra routes", "ip route add 198.51.100.0/24 dev ts0 table 7717 metric 5 proto 77; ip -6 route add prohibit 2001:db8::/32 table 7717 metric 5 proto 77"},
		{"route with a type of service", "ip route add default tos 0x10 via 169.254.64.1 onlink dev ts0 table 7717 metric 100 proto 77"},
		{"several routes of one key", `ip route append default dev fd0 table 7717 metric 100 proto 77
			ip route prepend unreachable default table 7717 metric 100 proto 77
			ip route append default via 169.254.64.1 onlink dev ts0 table 7717 metric 100 proto 77`},
		{"several IPv6 routes of one key", `ip -6 route append default dev fd0 table 7717 metric 100 proto 77
			ip -6 route append unreachable default table 7717 metric 100 proto 77`},
		// Alone, for a dump leaves out what the kernel keeps between two hops.
		{"a second next hop", "ip -6 route append default via fe80::1 dev ts0 table 7717 metric 100 proto 77"},
		{"an IPv6 route twice, by a replacement", `ip -6 route append default dev ts0 table 7717 metric 4096 proto 77
			ip -6 route replace unreachable default table 7717 metric 4096 proto 77`},
		{"rule removed", "ip rule del pref 7702 lookup 7717 protocol 77; ip -6 rule del pref 7700"},
		{"extra rules", "ip rule add pref 7702 from 10.0.0.0/8 lookup 7717 protocol 77; ip -6 rule add pref 7719 unreachable protocol 77"},
		{"a rule with a condition of its own", "ip rule add pref 7702 not to 10.0.0.0/8 lookup 7717 protocol 77"},
		{"sysctls", "sysctl -qw net.ipv4.conf.ts0.rp_filter=1 net.ipv4.ip_forward=0"},
		{"all at once", "ip link set ts0 down mtu 1400; for p in 7700 7701 7702; do ip rule del pref $p protocol 77; done; ip addr add 10.1.1.1/24 dev ts0; ip route add 9.9.9.9 dev fd0 table 7717 proto 77"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			run(t, b.member, foreign)
			want := member(7)
			reconcile(t, b.n, memberScope, want)
			before := sorted(all(t, b.member))

			run(t, b.member, tt.tamper)
			plan := reconcile(t, b.n, memberScope, want)
			if plan.Empty() {
				t.Fatal("went unnoticed")
			}
			// Index and age of the links differ, and nothing else may.
			if diff := cmp.Diff(before, sorted(all(t, b.member))); diff != "" {
				t.Errorf("not as before (-before +after)\n%s\nplan:\n%v", diff, plan)
			}
		})
	}
}

// sorted returns the lines in order: rules of one priority may change places.
func sorted(text string) []string {
	return slices.Sorted(strings.Lines(text))
}

func TestRuleCopies(t *testing.T) {
	b := newBed(t)
	want := member(1)
	reconcile(t, b.n, memberScope, want)
	before := sorted(run(t, b.member, "ip rule; ip -6 rule"))
	// iproute2 refuses to add a rule twice, and one behind a narrower one; the kernel
	// does not.
	copied := want.Rules[1]
	wide := netstate.Rule{Family: netstate.V4, Priority: ident.RuleDirect, Table: ident.TableMain}
	for _, r := range []netstate.Rule{copied, copied, wide} {
		if err := kernel.AddRuleCopy(b.n, r); err != nil {
			t.Fatal(err)
		}
	}
	plan := reconcile(t, b.n, memberScope, want)
	expected := netstate.Plan{netstate.RuleDel{Rule: copied}, netstate.RuleDel{Rule: copied}, netstate.RuleDel{Rule: wide}}
	if diff := cmp.Diff(expected.String(), plan.String()); diff != "" {
		t.Errorf("plan (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(before, sorted(run(t, b.member, "ip rule; ip -6 rule"))); diff != "" {
		t.Errorf("not as before (-before +after)\n%s", diff)
	}
}

// TestWideRuleBehindNarrow adds and deletes rules that the kernel takes for each other.
func TestWideRuleBehindNarrow(t *testing.T) {
	b := newBed(t)
	scope := netstate.Scope{RuleFirst: ident.RuleFirst, RuleLast: ident.RuleLast}
	for _, dst := range []string{"10.0.0.0/8", "fd00::/8"} {
		narrow := netstate.Rule{Family: netstate.V4, Priority: ident.RuleDirect, Table: ident.TableMain, Dst: netip.MustParsePrefix(dst)}
		if narrow.Dst.Addr().Is6() {
			narrow.Family = netstate.V6
		}
		wide := narrow
		wide.Dst = netip.Prefix{}
		for _, rules := range [][]netstate.Rule{{narrow}, {narrow, wide}, {narrow}, {wide}, {narrow, wide}, {wide}, nil} {
			reconcile(t, b.n, scope, netstate.State{Rules: rules})
			again := netstate.Plan{}
			for _, r := range rules {
				again = append(again, netstate.RuleAdd{Rule: r})
			}
			if err := b.n.Apply(again); err != nil { // adding the present
				t.Fatal(err)
			}
			got := observe(t, b.n, scope)
			if diff := cmp.Diff(netstate.State{Rules: rules}.String(), got.String()); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
		}
	}
}

func TestReplaceIsSeamless(t *testing.T) {
	b := newBed(t)
	want := member(7)
	reconcile(t, b.n, memberScope, want)
	for i, r := range want.Routes {
		if r.Type == netstate.Unicast {
			want.Routes[i].Src = netip.Addr{}
		}
	}
	var ops []string
	for _, op := range reconcile(t, b.n, memberScope, want) {
		ops = append(ops, fmt.Sprintf("%T", op))
	}
	if diff := cmp.Diff(slices.Repeat([]string{"netstate.RouteReplace"}, 4), ops); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNoLinkLocalAddresses(t *testing.T) {
	b := newBed(t)
	reconcile(t, b.n, memberScope, member(7))
	gw := open(t, b.gateway, nil)
	reconcile(t, gw, netstate.Scope{Links: []string{"tg*"}}, netstate.State{Links: []netstate.Link{
		{Name: "tg7", Kind: netstate.Veth, Alias: ident.AliasPrefix + "gateway", Up: true},
	}})
	for name, ns := range map[string]*netns.Handle{"member": b.member, "gateway": b.gateway} {
		if out := run(t, ns, "ip -6 -o addr show scope link; ip -6 -o addr show tentative"); out != "" {
			t.Errorf("%s:\n%s", name, out)
		}
		if out := run(t, ns, "ip -d link"); strings.Count(out, "addrgenmode none") != 1 {
			t.Errorf("%s:\n%s", name, out)
		}
	}
	// Nor does it come when the mode was changed behind our back.
	run(t, b.member, "ip link set ts0 addrgenmode eui64 down")
	reconcile(t, b.n, memberScope, member(7))
	if out := run(t, b.member, "ip -6 -o addr show scope link"); out != "" {
		t.Errorf("after repair:\n%s", out)
	}
}
