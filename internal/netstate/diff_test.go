package netstate_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

var (
	ts0 = netstate.Link{
		Name: "ts0", Kind: netstate.Veth, Alias: "tailgate:m", MTU: 1280, MAC: "02:74:67:01:00:01", Up: true,
		Peer: netstate.Peer{Name: "tg1", MAC: "02:74:67:00:00:01"},
	}
	tun = netstate.Link{Name: "tun", Kind: netstate.Existing, MTU: 1500, Up: true}
)

func addr(link, prefix string) netstate.Addr {
	return netstate.Addr{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func neigh(link, ip, mac string) netstate.Neigh {
	return netstate.Neigh{Link: link, IP: netip.MustParseAddr(ip), MAC: mac}
}

// route takes "DST" or "DST via IP" and the source, "" for none; out by no link it
// is unreachable.
func route(table int, dst string, metric int, link, src string) netstate.Route {
	r := netstate.Route{Table: table, Metric: metric, Type: netstate.Unicast, Link: link}
	if link == "" {
		r.Type = netstate.Unreachable
	}
	dst, via, ok := strings.Cut(dst, " via ")
	if r.Dst = netip.MustParsePrefix(dst); ok {
		r.Via = netip.MustParseAddr(via)
	}
	if src != "" {
		r.Src = netip.MustParseAddr(src)
	}
	return r
}

func rule(priority, table int) netstate.Rule {
	return netstate.Rule{Family: netstate.V4, Priority: priority, Table: table}
}

func member() netstate.State {
	return netstate.State{
		Links:  []netstate.Link{ts0},
		Addrs:  []netstate.Addr{addr("ts0", "169.254.64.2/32"), addr("ts0", "fd2c::2/128")},
		Neighs: []netstate.Neigh{neigh("ts0", "169.254.64.1", "02:74:67:00:00:01")},
		Routes: []netstate.Route{
			route(7717, "100.64.0.0/10 via 169.254.64.1", 100, "ts0", "169.254.64.2"),
			route(7717, "100.64.0.0/10", 4096, "", ""),
		},
		Rules:   []netstate.Rule{rule(7702, 7717), rule(7701, 254)},
		Sysctls: []netstate.Sysctl{{Key: "net/ipv4/conf/ts0/rp_filter", Value: "2"}, {Key: "net/ipv4/ip_forward", Value: "1"}},
	}
}

func with(s netstate.State, change func(*netstate.State)) netstate.State {
	change(&s)
	return s
}

func TestDiff(t *testing.T) {
	for _, tt := range []struct {
		name       string
		have, want netstate.State
		plan       string
	}{
		{name: "nothing from nothing"},
		{
			name: "a member, from nothing: sysctls of the link after the link, fallback before preferred, direct before member",
			want: member(),
			plan: `
				sysctl net/ipv4/ip_forward = 1
				link add ts0 type veth alias "tailgate:m" mtu 1280 address 02:74:67:01:00:01 up peer tg1 address 02:74:67:00:00:01
				sysctl net/ipv4/conf/ts0/rp_filter = 2
				addr add 169.254.64.2/32 dev ts0
				addr add fd2c::2/128 dev ts0
				neigh replace 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0
				route add unreachable 100.64.0.0/10 table 7717 metric 4096
				route add unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 src 169.254.64.2 table 7717 metric 100
				rule add v4 priority 7701 lookup 254
				rule add v4 priority 7702 lookup 7717`,
		},
		{
			name: "a member that goes: what is on the link goes with it, sysctls stay",
			have: member(),
			plan: `
				rule del v4 priority 7702 lookup 7717
				rule del v4 priority 7701 lookup 254
				route del unreachable 100.64.0.0/10 table 7717 metric 4096
				link del ts0`,
		},
		{
			name: "new address, source and next hop: add, replace in place, then remove",
			have: member(),
			want: with(member(), func(s *netstate.State) {
				s.Addrs[0] = addr("ts0", "169.254.64.9/32")
				s.Routes[0] = route(7717, "100.64.0.0/10 via 169.254.64.1", 100, "ts0", "169.254.64.9")
			}),
			plan: `
				addr add 169.254.64.9/32 dev ts0
				route replace unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 src 169.254.64.9 table 7717 metric 100
				addr del 169.254.64.2/32 dev ts0`,
		},
		{
			name: "the last IPv4 address takes routes and neighbours along, which come back",
			have: member(),
			want: with(member(), func(s *netstate.State) {
				s.Addrs = s.Addrs[1:]
				s.Routes[0].Src = netip.Addr{}
			}),
			plan: `
				route replace unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 table 7717 metric 100
				addr del 169.254.64.2/32 dev ts0
				neigh replace 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0
				route add unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 table 7717 metric 100`,
		},
		{
			name: "a link set down has lost IPv6 addresses, neighbours and routes",
			have: with(member(), func(s *netstate.State) {
				s.Links = []netstate.Link{ts0}
				s.Links[0].Up = false
				s.Addrs, s.Neighs, s.Routes = s.Addrs[:1], nil, s.Routes[1:]
			}),
			want: member(),
			plan: `
				link set ts0 up
				addr add fd2c::2/128 dev ts0
				neigh replace 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0
				route add unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 src 169.254.64.2 table 7717 metric 100`,
		},
		{
			name: "another MAC flushes the neighbours, which come back in the same pass",
			have: member(),
			want: with(member(), func(s *netstate.State) {
				s.Links = []netstate.Link{ts0}
				s.Links[0].MAC = "02:74:67:01:00:02"
			}),
			plan: `
				link set ts0 address 02:74:67:01:00:02
				neigh replace 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0`,
		},
		{
			name: "an IPv6 address with another length goes first, its key being in the way",
			have: with(member(), func(s *netstate.State) { s.Addrs[1] = addr("ts0", "fd2c::2/64") }),
			want: member(),
			plan: `
				addr del fd2c::2/64 dev ts0
				addr add fd2c::2/128 dev ts0`,
		},
		{
			name: "unreachable becomes unicast, and back, in place",
			have: netstate.State{Routes: []netstate.Route{route(7718, "fd00::/8", 100, "", ""), route(7718, "10.0.0.0/8", 100, "tun", "")}},
			want: netstate.State{Routes: []netstate.Route{route(7718, "fd00::/8", 100, "tun", ""), route(7718, "10.0.0.0/8", 100, "", "")}},
			plan: `
				route replace unicast fd00::/8 dev tun table 7718 metric 100
				route replace unreachable 10.0.0.0/8 table 7718 metric 100`,
		},
		{
			name: "several routes of one key: the narrowest is deleted first, the wanted one is made sure of",
			have: netstate.State{Routes: []netstate.Route{
				route(7718, "10.0.0.0/8", 100, "", ""), route(7718, "10.0.0.0/8 via 10.9.9.9", 100, "tun", ""), route(7718, "10.0.0.0/8", 100, "tun", ""),
			}},
			want: netstate.State{Routes: []netstate.Route{route(7718, "10.0.0.0/8", 100, "tun", "")}},
			plan: `
				route del unicast 10.0.0.0/8 via 10.9.9.9 dev tun table 7718 metric 100
				route del unreachable 10.0.0.0/8 table 7718 metric 100
				route replace unicast 10.0.0.0/8 dev tun table 7718 metric 100`,
		},
		{
			name: "several routes of one key, none of them wanted: each is named, for nobody knows which was replaced",
			have: netstate.State{Routes: []netstate.Route{
				route(7718, "10.0.0.0/8", 100, "", ""), route(7718, "10.0.0.0/8 via 10.9.9.9", 100, "tun", ""),
			}},
			want: netstate.State{Routes: []netstate.Route{route(7718, "10.0.0.0/8", 100, "tun", "")}},
			plan: `
				route replace unicast 10.0.0.0/8 dev tun table 7718 metric 100
				route del unicast 10.0.0.0/8 via 10.9.9.9 dev tun table 7718 metric 100
				route del unreachable 10.0.0.0/8 table 7718 metric 100
				route replace unicast 10.0.0.0/8 dev tun table 7718 metric 100`,
		},
		{
			name: "a route that nobody of ours made",
			have: netstate.State{Routes: []netstate.Route{{
				Table: 7718, Dst: netip.MustParsePrefix("10.0.0.0/8"), Metric: 100, Type: netstate.Unicast, Link: "tun", Extra: "tos 16",
			}}},
			plan: `route del unicast 10.0.0.0/8 dev tun table 7718 metric 100 extra "tos 16"`,
		},
		{
			name: "a rule twice",
			have: netstate.State{Rules: []netstate.Rule{rule(7702, 7717), rule(7702, 7717), rule(7702, 7717)}},
			want: netstate.State{Rules: []netstate.Rule{rule(7702, 7717), rule(7702, 7717)}},
			plan: `
				rule del v4 priority 7702 lookup 7717
				rule del v4 priority 7702 lookup 7717`,
		},
		{
			name: "an existing link: zero values and down are left alone, sysctls of others too",
			have: netstate.State{
				Links: []netstate.Link{tun, {Name: "eth0", Kind: netstate.Existing, Up: true}}, Addrs: []netstate.Addr{addr("tun", "100.64.0.1/32")},
				Sysctls: []netstate.Sysctl{{Key: "net/ipv4/ip_forward", Value: "0"}, {Key: "net/ipv4/tcp_rmem", Value: "4096\t1 2\n"}},
			},
			want: netstate.State{
				Links:   []netstate.Link{{Name: "tun", Kind: netstate.Existing, TxQueueLen: 500}, {Name: "eth0", Kind: netstate.Existing}},
				Sysctls: []netstate.Sysctl{{Key: "net/ipv4/tcp_rmem", Value: "4096 1 2"}},
			},
			plan: `
				link set tun txqueuelen 500
				addr del 100.64.0.1/32 dev tun`,
		},
		{
			name: "what no plan can bring is said all the same, once",
			have: netstate.State{Links: []netstate.Link{{Name: "ts0", Kind: netstate.Existing}}},
			want: with(member(), func(s *netstate.State) {
				s.Links = []netstate.Link{ts0, tun}
				s.Addrs, s.Neighs, s.Routes, s.Rules, s.Sysctls = nil, nil, nil, nil, nil
			}),
			plan: `
				link add ts0 type veth alias "tailgate:m" mtu 1280 address 02:74:67:01:00:01 up peer tg1 address 02:74:67:00:00:01
				link set tun mtu 1500 up`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.ReplaceAll(strings.TrimSpace(tt.plan), "\t", "")
			got := netstate.Diff(tt.have, tt.want)
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(strings.TrimSpace(got.String()), "\n")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Empty() != (want == "") {
				t.Errorf("Empty() = %v", got.Empty())
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	down := netstate.State{Links: []netstate.Link{{Name: "ts0", Kind: netstate.Veth}}}
	for _, tt := range []struct {
		name string
		have netstate.State
		op   netstate.Op
	}{
		{"a link whose name is taken", down, netstate.LinkAdd{Link: ts0}},
		{"a change of no link", netstate.State{}, netstate.LinkSet{Name: "ts0", MTU: 1280}},
		{"a route out by a link that is down", down, netstate.RouteAdd{Route: route(7717, "10.0.0.0/8", 100, "ts0", "")}},
		{"a replacement out by a link that is down", down, netstate.RouteReplace{Route: route(7717, "10.0.0.0/8", 100, "ts0", "")}},
		{"a second route of one key", member(), netstate.RouteAdd{Route: route(7717, "100.64.0.0/10", 100, "", "")}},
		{"an IPv6 address with another length", member(), netstate.AddrAdd{Addr: addr("ts0", "fd2c::2/64")}},
	} {
		if got, err := (netstate.Plan{tt.op}).Apply(tt.have); err == nil || !strings.HasPrefix(err.Error(), tt.op.String()) {
			t.Errorf("%s: %v, error %v", tt.name, got, err)
		}
	}
}

func TestText(t *testing.T) {
	s := member()
	s.Rules = append(s.Rules, netstate.Rule{
		Family: netstate.V6, Priority: 7700, Table: 254, Mark: 0x02000000, Mask: 0x02000000, Dst: netip.MustParsePrefix("fd00::/8"), Iif: "eth0",
	})
	want := `link ts0 type veth alias "tailgate:m" mtu 1280 address 02:74:67:01:00:01 up peer tg1 address 02:74:67:00:00:01
addr 169.254.64.2/32 dev ts0
addr fd2c::2/128 dev ts0
neigh 169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0
route unicast 100.64.0.0/10 via 169.254.64.1 dev ts0 src 169.254.64.2 table 7717 metric 100
route unreachable 100.64.0.0/10 table 7717 metric 4096
rule v4 priority 7701 lookup 254
rule v4 priority 7702 lookup 7717
rule v6 priority 7700 to fd00::/8 fwmark 0x2000000/0x2000000 iif eth0 lookup 254
sysctl net/ipv4/conf/ts0/rp_filter = 2
sysctl net/ipv4/ip_forward = 1
`
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	twice := s
	twice.Rules = append(twice.Rules, twice.Rules...)
	twice.Addrs = append(twice.Addrs, twice.Addrs...)
	if diff := cmp.Diff(s.Sorted(), twice.Sorted(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("duplicates are not merged (-want +got)\n%s", diff)
	}
}

func BenchmarkDiff(b *testing.B) {
	var s netstate.State
	for i := range 10000 {
		ip := netip.AddrFrom4([4]byte{169, 254, 64 + byte(i>>8), byte(i)})
		l := ts0
		l.Name = "tg" + ip.String()
		s.Links = append(s.Links, l)
		s.Addrs = append(s.Addrs, netstate.Addr{Link: l.Name, Prefix: netip.PrefixFrom(ip, 32)})
		s.Routes = append(s.Routes, netstate.Route{Table: 7718, Dst: netip.PrefixFrom(ip, 32), Metric: 100, Type: netstate.Unicast, Link: l.Name})
	}
	for b.Loop() {
		netstate.Diff(s, netstate.State{})
		netstate.Diff(netstate.State{}, s)
	}
}
