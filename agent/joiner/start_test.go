//go:build linux

package joiner

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

// run runs shell commands in a namespace.
func run(t *testing.T, ns *netns.Handle, commands string) {
	t.Helper()
	err := ns.Do(func() error {
		out, err := exec.CommandContext(t.Context(), "sh", "-ec", commands).CombinedOutput()
		if err != nil {
			t.Errorf("%s", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from a namespace.
func dial(t *testing.T, ns *netns.Handle, to string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return ns.Do(func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", to)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// A gateway's namespace has members before its process has put in place what is its own: they reach nothing by the
// gateway's interface, and are told so. What leads out by the tunnel is open.
func TestKeptInWhileGatewayStarts(t *testing.T) {
	outside, gateway, ns := nstest.New(t), nstest.New(t), nstest.New(t)
	run(t, gateway, "ip link set lo up")
	run(t, outside, "ip link set lo up; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")
	for _, link := range []struct{ name, near, far, near6, far6 string }{
		{"eth0", "192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:1::2"},
		{"tailscale0", "198.51.100.1", "198.51.100.2", "2001:db8:2::1", "2001:db8:2::2"},
	} {
		if err := gateway.Do(func() error { return vethTo(link.name, outside) }); err != nil {
			t.Fatal(err)
		}
		run(t, gateway, "ip addr add "+link.near+"/24 dev "+link.name+"; ip addr add "+link.near6+"/64 nodad dev "+link.name+"; ip link set "+link.name+" up")
		run(t, outside, "ip addr add "+link.far+"/24 dev "+link.name+"; ip addr add "+link.far6+"/64 nodad dev "+link.name+"; ip link set "+link.name+" up")
	}
	run(t, outside, "ip route add 169.254.64.0/18 via 192.0.2.1; ip -6 route add fd2c:7d4a:91e6:7717::/64 via 2001:db8:1::1")
	var ln net.Listener
	err := outside.Do(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(t.Context(), "tcp", ":7")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })

	target, err := NewTarget(gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	s := spec
	s.Direct = []netip.Prefix{}
	mustJoin(t, ns, target, s)
	for _, to := range []string{"192.0.2.2:7", "[2001:db8:1::2]:7"} {
		// The ICMPv6 error comes while connect(2) still holds the socket, which takes it for a passing one (sk_err_soft) until the
		// next, a second later.
		began := time.Now()
		err := dial(t, ns, to)
		if took := time.Since(began); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) || took > 3*time.Second {
			t.Errorf("by the gateway's interface to %s: %v after %v, want to be refused", to, err, took)
		}
	}
	for _, to := range []string{"198.51.100.2:7", "[2001:db8:2::2]:7"} {
		if err := dial(t, ns, to); err != nil {
			t.Errorf("by the tunnel: %v", err)
		}
	}

	run(t, gateway, "nft delete table inet tailgate_attach")
	if _, table, err := target.Repair(); err != nil || !table {
		t.Errorf("repair: table put right: %v, %v", table, err)
	}
	if plan, table, err := target.Repair(); err != nil || table || !plan.Empty() {
		t.Errorf("repair of what is right: %v, %v, %v", plan, table, err)
	}
}

// vethTo makes a link from the calling thread's namespace to one of the same name in another.
func vethTo(name string, other *netns.Handle) error {
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name, TxQLen: -1})
	v.PeerName, v.PeerNamespace = name, netlink.NsFd(other.FD())
	return netlink.LinkAdd(v)
}
