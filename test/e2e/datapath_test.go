//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// TestEgressDatapath: members reach peers, all protocols and both families, as their group's device on their node. Nobody
// else does, and nobody reaches a member by the way that its own traffic takes.
func TestEgressDatapath(t *testing.T) {
	if s.Org != nil {
		realDatapath(t)
		return
	}
	apply(t, peers)
	makeOther(t, func(*v1alpha1.EgressGroupSpec) {})
	first, second := startPod(t, "first", n1, member), startPod(t, "second", n2, member)
	rival, outsider := startPod(t, "rival", n1, otherMember), startPod(t, "outsider", n1, nil)
	live := startPod(t, "live", n1, nil)
	awaitPods(t, first, second, rival, outsider, live)
	label(t, live, member)
	awaitGateways(t, peers, n1, n2)
	awaitGateways(t, other, n1)

	a, b, r, x, l := enter(t, first), enter(t, second), enter(t, rival), enter(t, outsider), enter(t, live)
	plain := s.Rig.Nodes[rig.Plain]
	device := map[*world.Host][]netip.Addr{a: tailnetAddrs(t, peers, n1), b: tailnetAddrs(t, peers, n2), r: tailnetAddrs(t, other, n1)}
	device[l] = device[a]

	t.Run("peer", func(t *testing.T) {
		for h, own := range device {
			for _, f := range families {
				awaitSeen(t, "a peer", h, plain.Tail(f), pick(f, own...))
			}
		}
		for _, f := range families {
			if all := []netip.Addr{pick(f, device[a]...), pick(f, device[b]...), pick(f, device[r]...)}; len(slices.Compact(slices.SortedFunc(slices.Values(all), netip.Addr.Compare))) != 3 {
				t.Errorf("three gateways have the addresses %v", all)
			}
			carries(t, a, plain.Tail(f))
		}
	})
	t.Run("as the pod itself sees it", func(t *testing.T) {
		from, via, err := whoAmI(t, first, plain.Tail4)
		if err != nil || from != device[a][0] || via != plain.Name {
			t.Errorf("answered by %q, which sees %v, not %v; %v", via, from, device[a][0], err)
		}
	})
	t.Run("outsider", func(t *testing.T) {
		for _, f := range families {
			nobodyElse(t, x, plain, plain.Tail(f))
		}
		if out := ip(t, x, "rule") + ip(t, x, "-6", "rule"); strings.Contains(out, fmt.Sprint(ident.TableMember)) || rig.HasLink(x, ident.MemberLink) {
			t.Errorf("a pod that is no member has what members have: %s", out)
		}
	})
	t.Run("node that routes to the gateway", func(t *testing.T) {
		for _, f := range clusterFamilies() {
			byNode(t, f, x, plain)
		}
	})
	t.Run("never by eth0", func(t *testing.T) {
		end := watchEth0(t, a, onlyTunnel)
		for _, f := range families {
			boundIsRefused(t, a, plain.Tail(f))
		}
		end()
	})
	t.Run("member to member", func(t *testing.T) {
		for _, f := range families {
			memberToMember(t, f, a, l, first.Spec.NodeName)
		}
	})
	t.Run("peer to member", func(t *testing.T) {
		serveIn(t, a, netip.MustParseAddrPort("[::]:80"), peer.Handler("member"))
		for _, f := range families {
			peerToMember(t, plain, a, linkAddr(t, a, f), pick(f, device[a]...))
		}
	})
}

// nobodyElse checks that a pod which is no member does not get through to a peer, whatever it tries.
func nobodyElse(t *testing.T, x *world.Host, plain *rig.Node, to netip.Addr) {
	t.Helper()
	c, err := rig.StartCapture(plain.Host, ident.TUN, func(p rig.Packet) bool { return p.Src == x.V4 || p.Src == x.V6 })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	closed(t, x, netip.AddrPortFrom(to, 80)) // how soon is the cluster network's affair
	spray(t, x, to)
	if err := c.Sync(within(t, slow), s.Rig.Nodes[rig.SubnetRouter].Tail(familyOf(to))); err != nil {
		t.Error(err)
	}
	if n, first := c.Count(); n > 0 {
		t.Errorf("%d packets of a pod that is no member reached the peer, such as %v", n, first)
	}
}

// byNode has the node route the tailnet to the gateway's pod, as somebody with rights there could, and checks that the gateway
// takes nothing from who is no member.
func byNode(t *testing.T, f int, x *world.Host, plain *rig.Node) {
	t.Helper()
	gwPod := podOfN1(t, peers)
	node, gw := enterNode(t, n1), enter(t, &gwPod)
	dst := netip.PrefixFrom(plain.Tail(f), plain.Tail(f).BitLen())
	link := routeLink(t, node, addr(gw, f))
	if err := rig.AddRoute(node, dst, addr(gw, f), link); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rig.DeleteRoute(node, dst, link); err != nil {
			t.Error(err)
		}
	}()
	came, err := rig.StartCapture(gw, "eth0", func(p rig.Packet) bool { return !p.Out && p.Dst == plain.Tail(f) })
	if err != nil {
		t.Fatal(err)
	}
	defer came.Stop()
	out, err := rig.StartCapture(gw, ident.TUN, func(p rig.Packet) bool { return p.Src == addr(x, f) })
	if err != nil {
		t.Fatal(err)
	}
	defer out.Stop()
	spray(t, x, plain.Tail(f))
	closed(t, x, netip.AddrPortFrom(plain.Tail(f), 80))
	if n, _ := came.Count(); n == 0 {
		t.Error("no packet came to the gateway, so this proves nothing")
	}
	if n, first := out.Count(); n > 0 {
		t.Errorf("the gateway passed on %d packets, such as %v", n, first)
	}
}

// routeLink is the link by which a host reaches an address.
func routeLink(t *testing.T, h *world.Host, to netip.Addr) string {
	t.Helper()
	fields := strings.Fields(ip(t, h, "route", "get", to.String()))
	if i := slices.Index(fields, "dev"); i >= 0 && i+1 < len(fields) {
		return fields[i+1]
	}
	t.Fatalf("%s has no route to %v: %q", h.Name, to, fields)
	return ""
}

// linkAddr is a member's own on its link.
func linkAddr(t *testing.T, h *world.Host, f int) netip.Addr {
	t.Helper()
	for line := range strings.Lines(ip(t, h, "-o", "addr", "show", "dev", ident.MemberLink)) {
		fields := strings.Fields(line)
		if p, err := netip.ParsePrefix(fields[3]); err == nil && familyOf(p.Addr()) == f && !p.Addr().IsLinkLocalUnicast() || f == 4 && err == nil && p.Addr().Is4() {
			return p.Addr()
		}
	}
	t.Fatalf("%s has no IPv%d address on %s", h.Name, f, ident.MemberLink)
	return netip.Addr{}
}

// memberToMember: a member that routes another's address to the gateway gets nowhere.
func memberToMember(t *testing.T, f int, from, to *world.Host, node string) {
	t.Helper()
	dst := linkAddr(t, to, f)
	via := pick(f, ident.GatewayV4, ident.GatewayV6)
	if err := rig.AddRoute(from, netip.PrefixFrom(dst, dst.BitLen()), via, ident.MemberLink); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rig.DeleteRoute(from, netip.PrefixFrom(dst, dst.BitLen()), ident.MemberLink); err != nil {
			t.Error(err)
		}
	}()
	left, err := rig.StartCapture(from, ident.MemberLink, func(p rig.Packet) bool { return p.Out && p.Dst == dst })
	if err != nil {
		t.Fatal(err)
	}
	defer left.Stop()
	came, err := rig.StartCapture(to, ident.MemberLink, func(p rig.Packet) bool { return !p.Out && p.Src == linkAddr(t, from, f) })
	if err != nil {
		t.Fatal(err)
	}
	defer came.Stop()
	spray(t, from, dst)
	closed(t, from, netip.AddrPortFrom(dst, 8080))
	if n, _ := left.Count(); n == 0 {
		t.Error("no packet was sent to the gateway, so this proves nothing")
	}
	if err := came.Sync(within(t, slow), s.Rig.Nodes[rig.Plain].Tail(f)); err != nil {
		t.Error(err)
	}
	if n, first := came.Count(); n > 0 {
		t.Errorf("%d packets reached another member on %s, such as %v", n, node, first)
	}
}

// peerToMember: a peer does not reach a member that listens, nor what the gateway itself serves.
func peerToMember(t *testing.T, plain *rig.Node, m *world.Host, link, gateway netip.Addr) {
	t.Helper()
	dst := netip.PrefixFrom(link, link.BitLen())
	if err := rig.AddRoute(plain.Host, dst, netip.Addr{}, ident.TUN); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rig.DeleteRoute(plain.Host, dst, ident.TUN); err != nil {
			t.Error(err)
		}
	}()
	c, err := rig.StartCapture(m, ident.MemberLink, func(p rig.Packet) bool { return !p.Out && p.Dport == 80 })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	var g errgroup.Group
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(link, 80), netip.AddrPortFrom(gateway, 80), netip.AddrPortFrom(gateway, 8080), netip.AddrPortFrom(gateway, gatewayPort)} {
		g.Go(func() error {
			if conn, err := plain.Dial(within(t, time.Second), "tcp", to.String()); err == nil {
				return errors.Join(fmt.Errorf("a peer was let in at %v", to), conn.Close())
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if err := c.Sync(within(t, slow), plain.Tail(familyOf(link))); err != nil {
		t.Error(err)
	}
	if n, first := c.Count(); n > 0 {
		t.Errorf("%d packets of a peer reached a member, such as %v", n, first)
	}
}

// gatewayPort is where gateways serve probes and metrics to the cluster.
const gatewayPort = 9002
