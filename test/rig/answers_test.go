//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/script"
)

// TestKernelAnswers: what the gateway's kernel itself has to say to a peer goes back into the tunnel, and no part of
// it to the cluster's network; what it has to say to a member goes to the member.
func TestKernelAnswers(t *testing.T) {
	ctx, r, m := withMember(t, "tgans", SubnetRouter)
	gw, err := r.AddGateway(ctx, GatewayOptions{Name: "gateway"})
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := StartCapture(gw.Host, "eth0", func(p Packet) bool {
		return slices.ContainsFunc(topology.TailnetPrefixes(), func(n netip.Prefix) bool { return n.Contains(p.Src) || n.Contains(p.Dst) })
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Stop()
	script.Run(t, gw.Host.Handle(), "sysctl -qw net.ipv4.fwmark_reflect=0 net.ipv6.fwmark_reflect=0") // as before an agent has come
	if err := gw.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := gw.WaitReady(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, gw.Log())
	}
	if _, _, err := gw.Target.Repair(); err != nil {
		t.Fatal(err)
	}
	spec := r.Spec("member", false)
	nowhere := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:77::/64")}
	spec.Prefixes = append(spec.Prefixes, nowhere...)
	if err := m.Join(gw, spec); err != nil {
		t.Fatal(err)
	}
	// Not the tailnet's nameserver, which the gateway has a way to of its own.
	peer := r.Nodes[SubnetRouter]
	retry := func(what string, try func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := Retry(ctx, func(ctx context.Context) error {
			// An ICMP error that finds the socket of a connection locked is dropped, and the kernel tries again after a second.
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			return try(ctx)
		}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, a := range s.Addrs {
		retry("a ping of the gateway", func(ctx context.Context) error { return Ping(ctx, peer.Host, a) })
	}
	for _, a := range []netip.Addr{peer.Tail4, peer.Tail6} {
		retry("a peer's answer that may go no further", func(ctx context.Context) error { return expire(ctx, peer, m, a, s.Addrs) })
	}
	for _, p := range nowhere {
		retry("a member's connection to where the tailnet has no route", func(ctx context.Context) error {
			_, err := m.Host.Dial(ctx, "tcp", netip.AddrPortFrom(p.Addr().Next(), 80).String())
			if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
				return fmt.Errorf("it was not refused: %w", err)
			}
			return nil
		})
	}
	if err := cluster.Sync(ctx, r.Nodes[Plain].Host.V4); err != nil {
		t.Fatal(err)
	}
	if n, first := cluster.Count(); n > 0 {
		t.Errorf("%d packets with tailnet addresses left for the cluster's network, such as %v", n, first)
	}
}

// expire has the member ask, and the peer answer with a packet that has no hop left at the gateway. It returns nil when the
// gateway, which has those addresses, tells the peer so.
func expire(ctx context.Context, peer *Node, m *Member, at netip.Addr, gateway []netip.Addr) error {
	told := make(chan struct{}, 1)
	c, err := StartCapture(peer.Host, ident.TUN, func(p Packet) bool {
		is := !p.Out && slices.Contains(gateway, p.Src) && (p.Proto == unix.IPPROTO_ICMP || p.Proto == unix.IPPROTO_ICMPV6)
		if is {
			select {
			case told <- struct{}{}:
			default:
			}
		}
		return is
	})
	if err != nil {
		return err
	}
	defer c.Stop()
	pc, err := peer.Host.ListenPacket("udp", netip.AddrPortFrom(at, 7017).String())
	if err != nil {
		return err
	}
	defer pc.Close()
	if at.Is4() {
		err = ipv4.NewPacketConn(pc).SetTTL(1)
	} else {
		err = ipv6.NewPacketConn(pc).SetHopLimit(1)
	}
	if err != nil {
		return err
	}
	ask, err := m.Host.Dial(ctx, "udp", netip.AddrPortFrom(at, 7017).String())
	if err != nil {
		return err
	}
	defer ask.Close()
	if _, err := ask.Write([]byte("?")); err != nil {
		return err
	}
	if err := answer(ctx, pc); err != nil {
		return err
	}
	select {
	case <-told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the peer at %v heard nothing from the gateway", at)
	}
}

func answer(ctx context.Context, pc net.PacketConn) error {
	until, _ := ctx.Deadline()
	if err := pc.SetDeadline(until); err != nil {
		return err
	}
	buf := make([]byte, 1)
	_, from, err := pc.ReadFrom(buf)
	if err == nil {
		_, err = pc.WriteTo(buf, from)
	}
	return err
}
