package ruleset_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// limit is longer than anything here takes; a test that reaches it has failed.
const limit = 20 * time.Second

const memberBit = 0x0100_0000

// lab is client (10.1.0.2, fd01::2) - tg1 - router - wan0 (MTU 1280) - server. The server has
// the addresses 198.51.100.1 and fd99::1, to which only table 100 of the router
// leads, and no way back to the client's.
type lab struct {
	client, router, server *netns.Handle
	conn                   *ruleset.Conn
}

func newLab(t *testing.T) lab {
	t.Helper()
	l := lab{client: nstest.New(t), router: nstest.New(t), server: nstest.New(t)}
	// In a script that the router runs, the others are at descriptors of this process.
	at := func(h *netns.Handle) string { return fmt.Sprintf("/proc/%d/fd/%d", unix.Getpid(), h.FD()) }
	run(t, l.router, fmt.Sprintf(`
		set -e
		ip link add tg1 type veth peer name c0 netns %s
		ip link add wan0 mtu 1280 type veth peer name s0 mtu 1500 netns %s
		echo 1 > /proc/sys/net/ipv4/ip_forward
		echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
		ip addr add 10.1.0.1/24 dev tg1
		ip addr add fd01::1/64 dev tg1 nodad
		ip addr add 10.2.0.1/24 dev wan0
		ip addr add fd02::1/64 dev wan0 nodad
		ip link set tg1 up
		ip link set wan0 up
		ip route add 198.51.100.0/24 via 10.2.0.2 table 100
		ip route add fd99::/64 via fd02::2 table 100
		ip rule add fwmark 0x1000000/0x1000000 lookup 100
		ip -6 rule add fwmark 0x1000000/0x1000000 lookup 100
	`, at(l.client), at(l.server)), "sh")
	run(t, l.client, `
		set -e
		ip addr add 10.1.0.2/24 dev c0
		ip addr add fd01::2/64 dev c0 nodad
		ip link set c0 up
		ip link set lo up
		ip route add default via 10.1.0.1
		ip -6 route add default via fd01::1
	`, "sh")
	run(t, l.server, `
		set -e
		ip addr add 10.2.0.2/24 dev s0
		ip addr add fd02::2/64 dev s0 nodad
		ip addr add 198.51.100.1/32 dev lo
		ip addr add fd99::1/128 dev lo nodad
		ip link set s0 up
		ip link set lo up
	`, "sh")
	l.conn = open(t, l.router)
	return l
}

// seen is what the server sees of a connection.
type seen struct {
	From netip.Addr
	// MaxSeg is TCP_MAXSEG, in bytes: the client's MSS less 12 for timestamps.
	MaxSeg int
}

// connect dials from the client to dst and returns what the server, listening at
// at, sees of it.
func (l lab) connect(t *testing.T, dst, at netip.AddrPort) (seen, error) {
	t.Helper()
	var ln *net.TCPListener
	if err := l.server.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if err := ln.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Do(func() error {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		c, err := dialer.DialContext(t.Context(), "tcp", dst.String())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}); err != nil {
		return seen{}, err
	}
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	return seen{From: from, MaxSeg: maxSeg(t, c)}, nil
}

func maxSeg(t *testing.T, c syscall.Conn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) {
		n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return n
}

// send sends a datagram from the client.
func (l lab) send(t *testing.T, dst string) {
	t.Helper()
	if err := l.client.Do(func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", dst)
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	}); err != nil {
		t.Fatal(err)
	}
}

// awaitCounters waits until the packets of each comment are as wanted.
func awaitCounters(t *testing.T, c *ruleset.Conn, want map[string]uint64) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for {
		counters, err := c.Counters(name)
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]uint64{}
		for _, n := range counters {
			have[n.Comment] = n.Packets
		}
		if cmp.Equal(want, have) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("packets counted (-want +have):\n%s", cmp.Diff(want, have))
		}
	}
}

var (
	server4 = netip.MustParseAddrPort("198.51.100.1:80")
	server6 = netip.MustParseAddrPort("[fd99::1]:80")
)

func markRules() ruleset.Chain {
	return chain(ruleset.TypeFilter, ruleset.HookPrerouting, ruleset.PriorityMangle,
		rule(ruleset.SetMark(memberBit, memberBit), ruleset.IifPrefix("tg")))
}

func masqueradeRules() ruleset.Chain {
	return chain(ruleset.TypeNAT, ruleset.HookPostrouting, ruleset.PrioritySNAT,
		rule(ruleset.Masquerade(), ruleset.Oif("wan0"), ruleset.Mark(memberBit, memberBit)))
}

func TestMarkMasqueradeAndClamp(t *testing.T) {
	l := newLab(t)
	clamp := chain(ruleset.TypeFilter, ruleset.HookForward, ruleset.PriorityMangle,
		rule(ruleset.ClampMSS(), ruleset.Oif("wan0"), ruleset.TCPSyn()))
	table := func(chains ...ruleset.Chain) ruleset.Table { return ruleset.Table{Name: name, Chains: chains} }

	apply(t, l.conn, table(masqueradeRules()))
	for _, dst := range []netip.AddrPort{server4, server6} {
		if got, err := l.connect(t, dst, dst); err == nil {
			t.Errorf("%s was reached without a mark: %+v", dst, got)
		}
	}
	for _, tc := range []struct {
		name   string
		table  ruleset.Table
		v4, v6 seen
	}{
		{
			"marked and masqueraded", table(markRules(), masqueradeRules()),
			seen{netip.MustParseAddr("10.2.0.1"), 1460 - 12}, seen{netip.MustParseAddr("fd02::1"), 1440 - 12},
		},
		{
			"and clamped to 1280", table(markRules(), masqueradeRules(), clamp),
			seen{netip.MustParseAddr("10.2.0.1"), 1240 - 12}, seen{netip.MustParseAddr("fd02::1"), 1220 - 12},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apply(t, l.conn, tc.table)
			for dst, want := range map[netip.AddrPort]seen{server4: tc.v4, server6: tc.v6} {
				got, err := l.connect(t, dst, dst)
				if err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("the server sees %+v of a connection to %s, not %+v", got, dst, want)
				}
			}
		})
	}
}

func TestDropsAreCounted(t *testing.T) {
	l := newLab(t)
	forward := chain(ruleset.TypeFilter, ruleset.HookForward, ruleset.PriorityFilter,
		ruleset.Rule{
			Matches: []ruleset.Match{ruleset.Iif("tg1"), ruleset.Not(ruleset.DstIn(prefixes("198.51.100.1/32", "192.0.2.0/24", "fd99::1/128", "fd77::/64")...))},
			Action:  ruleset.Drop(), Counter: true, Comment: "elsewhere",
		},
		ruleset.Rule{Matches: []ruleset.Match{ruleset.DstPort(ruleset.UDP, 9)}, Action: ruleset.Drop(), Counter: true, Comment: "discard"},
		ruleset.Rule{Matches: []ruleset.Match{ruleset.SrcIn(prefixes("10.9.0.0/16")...)}, Action: ruleset.Drop(), Counter: true, Comment: "nobody"},
		rule(ruleset.Reject(), ruleset.DstPort(ruleset.TCP, 82)))
	want := ruleset.Table{Name: name, Chains: []ruleset.Chain{markRules(), masqueradeRules(), forward}}
	apply(t, l.conn, want)

	for _, dst := range []string{"198.51.100.2:9", "[fd99::2]:9", "[fd99::3]:9", "198.51.100.1:9", "[fd99::1]:9"} {
		l.send(t, dst)
	}
	counted := map[string]uint64{"elsewhere": 3, "discard": 2, "nobody": 0}
	awaitCounters(t, l.conn, counted)

	for _, dst := range []netip.AddrPort{server4, server6} {
		if _, err := l.connect(t, dst, dst); err != nil {
			t.Errorf("what is in the list: %v", err)
		}
		barred := netip.AddrPortFrom(dst.Addr(), 82)
		_, err := l.connect(t, barred, barred)
		if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%s was not rejected as prohibited: %v", barred, err)
		}
	}
	if apply(t, l.conn, want) {
		t.Error("Apply again changed something")
	}
	awaitCounters(t, l.conn, counted)
	full, err := l.conn.Counters(name)
	if err != nil {
		t.Fatal(err)
	}
	// IPv4 20, IPv6 40, UDP 8, and the 1 byte that was sent.
	wantFull := []ruleset.Counter{
		{Chain: forward.Name, Comment: "elsewhere", Packets: 3, Bytes: 29 + 49 + 49},
		{Chain: forward.Name, Comment: "discard", Packets: 2, Bytes: 29 + 49},
		{Chain: forward.Name, Comment: "nobody"},
	}
	if diff := cmp.Diff(wantFull, full); diff != "" {
		t.Error(diff)
	}
}

func TestDNAT(t *testing.T) {
	l := newLab(t)
	apply(t, l.conn, ruleset.Table{Name: name, Chains: []ruleset.Chain{
		markRules(),
		masqueradeRules(),
		chain(ruleset.TypeNAT, ruleset.HookPrerouting, ruleset.PriorityDNAT,
			rule(ruleset.DNAT(netip.MustParseAddrPort("198.51.100.1:5353")), ruleset.DstPort(ruleset.TCP, 53)),
			rule(ruleset.DNAT(netip.MustParseAddrPort("[fd99::1]:5353")), ruleset.DstPort(ruleset.TCP, 53)),
			rule(ruleset.DNAT(netip.AddrPortFrom(server4.Addr(), 0)), ruleset.L4Proto(ruleset.TCP))),
	}})
	for dst, at := range map[string]string{
		"203.0.113.53:53":  "198.51.100.1:5353",
		"[fd55::53]:53":    "[fd99::1]:5353",
		"203.0.113.53:443": "198.51.100.1:443",
	} {
		if _, err := l.connect(t, netip.MustParseAddrPort(dst), netip.MustParseAddrPort(at)); err != nil {
			t.Errorf("%s to %s: %v", dst, at, err)
		}
	}
}

// A server marks the connections that come in from outside; each packet with which it answers
// then bears the mark.
func TestConnectionMark(t *testing.T) {
	l := newLab(t)
	apply(t, l.conn, ruleset.Table{Name: name, Chains: []ruleset.Chain{markRules(), masqueradeRules()}})
	server := open(t, l.server)
	const bit = 0x0200_0000
	apply(t, server, ruleset.Table{Name: name, Chains: []ruleset.Chain{
		chain(ruleset.TypeFilter, ruleset.HookPrerouting, ruleset.PriorityMangle,
			rule(ruleset.SetCTMark(bit, bit), ruleset.Not(ruleset.Iif("lo")), ruleset.CTState(ruleset.StateNew))),
		chain(ruleset.TypeRoute, ruleset.HookOutput, ruleset.PriorityMangle, rule(ruleset.RestoreMark(bit))),
		chain(ruleset.TypeFilter, ruleset.HookOutput, ruleset.PriorityFilter,
			ruleset.Rule{Matches: []ruleset.Match{ruleset.Not(ruleset.Mark(bit, bit)), ruleset.L4Proto(ruleset.TCP)}, Counter: true, Comment: "unmarked"}),
	}})
	for _, dst := range []netip.AddrPort{server4, server6} {
		if _, err := l.connect(t, dst, dst); err != nil {
			t.Error(err)
		}
	}
	awaitCounters(t, server, map[string]uint64{"unmarked": 0})
}
