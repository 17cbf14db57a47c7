// Package netstatetest makes network states out of bytes, for tests that try
// whatever there is: the fuzzer of netstate.Diff and the test that holds its model
// against the kernel.
package netstatetest

import (
	"fmt"
	"net/netip"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// Existing are the names of the links that are in every state, made by others.
var Existing = []string{"kd0", "kd1"}

// Tables are the routing tables of every route and rule.
var Tables = []int{254, 7717, 7718}

// Priorities of every rule are from the first to the last.
const (
	FirstPriority = 7700
	LastPriority  = 7703
)

// Source draws small numbers from bytes; when they run out, zeros.
type Source struct{ rest []byte }

// NewSource returns a source that draws from data.
func NewSource(data []byte) *Source { return &Source{data} }

func (s *Source) below(n int) int {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return int(b) % n
}

func (s *Source) yes() bool { return s.below(2) == 1 }

func pick[T any](s *Source, from ...T) T { return from[s.below(len(from))] }

// State returns a state that could be wanted, as netstate.State says. Every link
// in Existing is in it, up.
func (s *Source) State() netstate.State {
	var st netstate.State
	for _, name := range Existing {
		st.Links = append(st.Links, s.link(name, netstate.Existing))
	}
	for i := range 4 {
		if s.yes() {
			st.Links = append(st.Links, s.link(fmt.Sprintf("kv%d", i), netstate.Veth))
		}
	}
	for _, l := range st.Links {
		s.putOn(&st, l)
	}
	for i := range 4 {
		if s.yes() {
			st.Routes = append(st.Routes, s.route(&st, i))
		}
	}
	// Two states draw from few values, so that they often have keys in common.
	for range s.below(4) {
		st.Rules = append(st.Rules, s.rule())
	}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/kd0/rp_filter"} {
		if s.yes() {
			st.Sysctls = append(st.Sysctls, netstate.Sysctl{Key: key, Value: pick(s, "0", "1")})
		}
	}
	st.Rules = st.Sorted().Rules
	return st
}

func (s *Source) link(name string, kind netstate.Kind) netstate.Link {
	l := netstate.Link{
		Name: name, Kind: kind, Up: true,
		MTU: pick(s, 0, 1280, 1500), TxQueueLen: pick(s, 0, 500), MAC: pick(s, "", "02:74:00:00:00:0a", "02:74:00:00:00:0b"),
	}
	if kind == netstate.Veth {
		l.Alias = "tailgate:" + pick(s, "a", "b")
		l.Up = s.below(4) != 3
		l.Peer = netstate.Peer{Name: "kp" + name, MAC: pick(s, "", "02:74:00:00:01:01")}
	}
	return l
}

func (s *Source) putOn(st *netstate.State, l netstate.Link) {
	for i, ip := range []string{"10.99.0.1", "10.99.0.2", "fd99::1", "fd99::2"} {
		a := netip.MustParseAddr(ip)
		if s.yes() {
			bits := pick(s, a.BitLen(), a.BitLen()-8)
			st.Addrs = append(st.Addrs, netstate.Addr{Link: l.Name, Prefix: netip.PrefixFrom(a, bits)})
		}
		if s.yes() {
			n := netip.MustParseAddr([]string{"10.99.1.1", "10.99.1.2", "fd99:1::1", "fd99:1::2"}[i])
			st.Neighs = append(st.Neighs, netstate.Neigh{Link: l.Name, IP: n, MAC: pick(s, "02:74:00:00:02:01", "02:74:00:00:02:02")})
		}
	}
}

// route returns a route with a key of its own, i.
func (s *Source) route(st *netstate.State, i int) netstate.Route {
	v6 := i%2 == 1
	r := netstate.Route{Table: pick(s, Tables...), Metric: 100 + i, Type: netstate.Unreachable, Dst: netip.MustParsePrefix("198.18.0.0/15")}
	via := netip.MustParseAddr("10.99.1.1")
	if v6 {
		r.Dst, via = netip.MustParsePrefix("2001:2::/48"), netip.MustParseAddr("fd99:1::1")
	}
	l := st.Links[s.below(len(st.Links))]
	if !l.Up || s.below(3) == 0 {
		return r
	}
	r.Type, r.Link = netstate.Unicast, l.Name
	if s.yes() {
		r.Via = via
	}
	for _, a := range st.Addrs {
		if a.Prefix.Addr().Is6() == v6 && s.yes() {
			r.Src = a.Prefix.Addr()
			break
		}
	}
	return r
}

func (s *Source) rule() netstate.Rule {
	r := netstate.Rule{Family: pick(s, netstate.V4, netstate.V6), Priority: FirstPriority + s.below(LastPriority-FirstPriority+1), Table: pick(s, Tables...)}
	if s.yes() {
		r.Mark, r.Mask = pick[uint32](s, 0, 0x01000000), pick[uint32](s, 0xff000000, 0x0f000000)
	}
	if s.yes() {
		r.Dst = netip.MustParsePrefix("198.18.0.0/15")
		if r.Family == netstate.V6 {
			r.Dst = netip.MustParsePrefix("2001:2::/48")
		}
	}
	r.Iif = pick(s, "", "", "kd0", "kv1")
	return r
}

// Tamper adds to a state what only others could have put there: copies of rules,
// and several routes of one key.
func (s *Source) Tamper(st *netstate.State) {
	if len(st.Rules) > 0 && s.yes() {
		st.Rules = append(st.Rules, st.Rules[s.below(len(st.Rules))])
	}
	for range s.below(3) {
		if len(st.Routes) == 0 {
			break
		}
		r := st.Routes[s.below(len(st.Routes))]
		switch s.below(4) {
		case 0:
			r.Type, r.Link, r.Via, r.Src = netstate.Unicast, Existing[0], netip.Addr{}, netip.Addr{}
		case 1:
			r.Src = netip.Addr{}
		case 2:
			r.Extra = "mtu"
		}
		st.Routes = append(st.Routes, r)
	}
}
