//go:build linux

package kernel_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

func await(t *testing.T, wake <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, ok := <-wake:
		if !ok {
			t.Fatalf("%s: the subscription has ended", what)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no wake-up", what)
	}
}

func TestSubscribe(t *testing.T) {
	ns := nstest.New(t)
	n := open(t, ns, nil)
	run(t, ns, `ip link add a0 type veth peer name a1; ip link set a0 addrgenmode none; ip link set a1 addrgenmode none
		ip link set a0 up; ip link set a1 up; ip link set lo up`)
	for _, change := range []string{
		"ip link set a0 alias other", "ip addr add 10.0.0.1/32 dev a0", "ip -6 addr add fd00::1/128 dev a0 noprefixroute nodad",
		"ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev a0 nud permanent", "ip route add unreachable 10.9.0.0/16 table 7",
		"ip -6 route add unreachable fd09::/64 table 7", "ip rule add pref 7 lookup 7", "ip -6 rule add pref 7 lookup 7",
		"sysctl -qw net.ipv4.conf.a0.forwarding=1", "sysctl -qw net.ipv6.conf.a0.forwarding=1", "nft add table inet other",
	} {
		// A subscription of its own for each, so that no late notice of another
		// change is taken for it.
		ctx, cancel := context.WithCancel(t.Context())
		wake, err := n.Subscribe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		run(t, ns, change)
		await(t, wake, change)
		cancel()
		for range wake { // until it is closed
		}
	}
}

// TestLearnedNeighbours: nobody is woken for what address resolution does, but for what somebody does to an entry that was set.
func TestLearnedNeighbours(t *testing.T) {
	ns := nstest.New(t)
	run(t, ns, `ip link add a0 type veth peer name a1; ip link set a0 addrgenmode none; ip link set a1 addrgenmode none
		ip link set a0 up; ip link set a1 up; ip addr add 10.0.0.1/24 dev a0`)
	var sub kernel.Subscription
	if err := ns.Do(func() (err error) {
		sub, err = kernel.SubscribeTo(unix.RTNLGRP_NEIGH)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, tt := range []struct {
		change string
		wakes  bool
	}{
		{"ip neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev a0 nud reachable", false},
		{"ip neigh change 10.0.0.8 lladdr 02:00:00:00:00:08 dev a0 nud stale", false},
		{"ip neigh change 10.0.0.8 lladdr 02:00:00:00:00:08 dev a0 nud probe", false},
		{"ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev a0 nud permanent", true},
		{"ip neigh change 10.0.0.9 lladdr 02:00:00:00:00:0a dev a0 nud permanent", true},
		{"ip neigh del 10.0.0.9 dev a0", true},
	} {
		run(t, ns, tt.change)
		heard, wakes := sub.Heard(t)
		if heard == 0 || wakes != tt.wakes {
			t.Errorf("%s: %d messages; somebody is woken: %v, want %v", tt.change, heard, wakes, tt.wakes)
		}
	}
}

func TestOverrunWakes(t *testing.T) {
	ns := nstest.New(t)
	run(t, ns, "ip link set lo up")
	var sub kernel.Subscription
	if err := ns.Do(func() (err error) {
		sub, err = kernel.SubscribeSmall(unix.RTNLGRP_IPV4_ROUTE)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Many times what the socket holds, with nobody reading.
	run(t, ns, `for i in $(seq 1000); do echo "route add unreachable 10.$((i / 250)).$((i % 250)).0/24 table 8"; done | ip -batch -`)
	wake := sub.Start(t)
	await(t, wake, "overrun")
	for drained := false; !drained; {
		select {
		case <-wake:
		default:
			drained = true
		}
	}
	run(t, ns, "ip route flush table 8")
	await(t, wake, "after the overrun")
}
