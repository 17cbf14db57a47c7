//go:build linux

package stitch

import (
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// promise is how soon drift is healed; a machine that runs other packages' tests beside this gets three times as long.
const promise = time.Second

// Each tampering is healed by itself, told by its kind, and nothing more is written once it is.
func TestHeals(t *testing.T) {
	l, gw, _ := scene(t)
	ns, where := newNS(t)
	run(t, ns, "ip route add unreachable 10.9.0.0/16 table 7717; nft add table inet other") // somebody else's
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	for _, tt := range []struct {
		name, kind string
		in         *netns.Handle
		tamper     string
	}{
		{"link deleted", "link", ns, "ip link del ts0"},
		{"link deleted in the gateway", "link", gw, "ip link del $(ls /sys/class/net 2>/dev/null | grep ^tg || ip -o link | grep -o 'tg[0-9]*' | head -1)"},
		{"link down", "link", ns, "ip link set ts0 down"},
		{"MTU", "link", ns, "ip link set ts0 mtu 1400"},
		{"address removed", "address", ns, "ip addr flush dev ts0 scope global"},
		{"neighbour removed", "neighbour", ns, "ip neigh del 169.254.64.1 dev ts0"},
		{"route removed", "route", ns, "ip route del 100.64.0.0/10 table 7717 metric 100"},
		{"fallback removed", "route", ns, "ip route del unreachable 10.20.0.0/24 table 7717"},
		{"IPv6 route removed", "route", ns, "ip -6 route del fd7a:115c:a1e0::/48 table 7717 metric 100"},
		{"rule removed", "rule", ns, "ip rule del pref 7702"},
		{"nftables rule removed", "nftables", ns, "nft flush chain inet tailgate guard"},
		{"nftables rule tampered with", "nftables", ns, "nft insert rule inet tailgate guard accept"},
		{"nftables table removed", "nftables", ns, "nft delete table inet tailgate"},
		{"route in the gateway removed", "route", gw, "ip route flush proto 77"},
		{"neighbour in the gateway removed", "neighbour", gw, "ip neigh flush nud permanent"},
		{"link in the gateway down", "link", gw, "ip link set $(ip -o link | grep -o 'tg[0-9]*' | head -1) down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := l.Snapshot()
			had, _ := before.member("a")
			start := time.Now()
			run(t, tt.in, tt.tamper)
			r := l.await(t, "repaired", func(r Report) bool {
				s, _ := r.member("a")
				if s.Repairs == had.Repairs || s.State != Joined {
					return false
				}
				// A command that changes several things may go on behind the first repair: then there is another.
				i, err := l.Inspect("a")
				return err == nil && i.InPlace() && i.Slot != 0
			})
			took := time.Since(start)
			if took > 3*promise {
				t.Errorf("repaired after %v", took)
			}
			t.Logf("repaired after %v", took)
			if r.Repairs[tt.kind] <= before.Repairs[tt.kind] {
				t.Errorf("repairs were %v and are %v; want one more %s", before.Repairs, r.Repairs, tt.kind)
			}
		})
	}
	run(t, ns, "ip route del unreachable 10.9.0.0/16 table 7717; nft delete table inet other") // are still there
}

// The base state of a gateway belongs to no member.
func TestGatewayBaseHeals(t *testing.T) {
	l, gw, where := scene(t)
	_, member := newNS(t)
	l.SetMember(pod("a", member))
	l.wait(t, "a")
	if !gatewayRight(t, gw) {
		t.Error("the gateway's namespace was not prepared")
	}
	for name, tamper := range map[string]string{
		"address":    "ip addr del 169.254.64.1/32 dev lo",
		"forwarding": "echo 0 > /proc/sys/net/ipv4/ip_forward",
		"IPv6":       "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
		"nftables":   "nft delete table inet tailgate_attach",
		// Made by the gateway before anybody could set what it would inherit.
		"tunnel": "echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter; ip tuntap add tailscale0 mode tun; ip link set tailscale0 up",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			changed := follow(t, where)
			run(t, gw, tamper)
			for deadline := time.After(limit); !gatewayRight(t, gw); {
				select {
				case <-changed:
				case <-deadline:
					t.Fatal("not repaired")
				}
			}
			if took := time.Since(start); took > 3*promise {
				t.Errorf("repaired after %v", took)
			}
		})
	}
}

// follow returns the news of a namespace.
func follow(t *testing.T, where NetNS) <-chan struct{} {
	t.Helper()
	p, err := pin(where)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.subscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.close() })
	return p.changed
}

func gatewayRight(t *testing.T, gw *netns.Handle) bool {
	t.Helper()
	return run(t, gw, `
		ip -o addr show dev lo | grep -q 169.254.64.1/32 || exit 0
		nft list table inet tailgate_attach > /dev/null 2>&1 || exit 0
		cd /proc/sys/net
		cat ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/all/rp_filter ipv4/conf/default/rp_filter
		test ! -e ipv4/conf/tailscale0 || sed s/^/tunnel/ ipv4/conf/tailscale0/rp_filter
		`) == "1\n1\n0\n0\n"+tunnelRight(t, gw)
}

func tunnelRight(t *testing.T, gw *netns.Handle) string {
	t.Helper()
	return run(t, gw, "test ! -e /proc/sys/net/ipv4/conf/tailscale0 || echo tunnel0")
}

// A runtime that takes a pod's network down begins with lo, and the kernel drops what is on it. That is nobody's tampering.
func TestEndingIsNoRepair(t *testing.T) {
	l, _, _ := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	const refused = "ip -6 route show table 7717 type unreachable"
	before := run(t, ns, refused)
	changed := follow(t, where)
	run(t, ns, "ip link set lo down")
	if run(t, ns, refused) == before {
		t.Fatal("the kernel keeps the routes, so this proves nothing")
	}
	for end := time.After(limit); run(t, ns, refused) != before; {
		select {
		case <-changed:
		case <-end:
			t.Fatal("the routes are not put back")
		}
	}
	l.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.30.0.0/24")}) // a look behind that one
	if s := l.wait(t, "a"); s.State != Joined || s.Repairs != 0 {
		t.Errorf("%+v", s)
	}
}
