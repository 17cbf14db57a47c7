//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// TestMagicDNSThroughGateway: a member whose resolver is the tailnet's knows all names, and so does, with magicDNS,
// one that was changed in nothing. Without its gateway it still knows the cluster's.
func TestMagicDNSThroughGateway(t *testing.T) {
	if s.Org != nil {
		realDNS(t)
		return
	}
	ns, addrs := s.Cluster.Upstream()
	end, err := rig.ServeOutside(s.Rig.World.Adopt("the cluster's upstream", ns), addrs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	makeOther(t, func(*v1alpha1.EgressGroupSpec) {})
	asking := startPod(t, "asking", n1, otherMember, func(p *corev1.Pod) {
		p.Spec.DNSPolicy = corev1.DNSNone
		p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{tsaddr.TailscaleServiceIPString}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local", s.Rig.Tailnet.Domain()}}
	})
	plainPod := startPod(t, "unchanged", n1, otherMember)
	awaitPods(t, asking, plainPod)
	awaitGateways(t, other, n1)
	for _, d := range s.Rig.Tailnet.NodesByTag("tag:egress-other") {
		if err := s.Rig.Tailnet.SetNodeAttr(d.Name, tailcfg.NodeAttrMagicDNSPeerAAAA); err != nil {
			t.Fatal(err)
		}
	}
	a, m := enter(t, asking), enter(t, plainPod)
	// What the kubelet writes into resolv.conf is the first, also where there are two families.
	resolvers := s.Plan.DNS[:1]
	tailnets := []netip.Addr{tsaddr.TailscaleServiceIP(), tsaddr.TailscaleServiceIPv6()}
	plain := s.Rig.Nodes[rig.Plain]
	peerName := plain.Name + "." + s.Rig.Tailnet.Domain()

	t.Run("100.100.100.100", func(t *testing.T) {
		for _, h := range []*world.Host{a, m} {
			knows(t, "the tailnet's resolver", h, tailnets, true)
		}
		for name, want := range map[string][]string{
			peerName:        {plain.Tail4.String(), plain.Tail6.String()},
			plain.Name:      {plain.Tail4.String(), plain.Tail6.String()},
			rig.OutsideName: {rig.Known(rig.OutsideName, 4).String(), rig.Known(rig.OutsideName, 6).String()},
			"kubernetes":    {s.Plan.API.String()},
			rig.CorpName:    {rig.Known(rig.CorpName, 4).String(), rig.Known(rig.CorpName, 6).String()},
		} {
			looksUp(t, asking, name, want)
		}
	})
	t.Run("magicDNS off", func(t *testing.T) {
		knows(t, "magicDNS off", m, resolvers, false)
	})
	t.Run("magicDNS on", func(t *testing.T) {
		patchOther(t, `{"dns":{"magicDNS":true}}`)
		took, err := eventually(t, func(ctx context.Context) error {
			return lookup(ctx, m, "udp", resolvers[0], peerName, 4, plain.Tail4)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("magicDNS is on after %v", took)
		knows(t, "magicDNS on", m, resolvers, true)
		for name, want := range map[string][]string{
			peerName:        {plain.Tail4.String(), plain.Tail6.String()},
			rig.OutsideName: {rig.Known(rig.OutsideName, 4).String(), rig.Known(rig.OutsideName, 6).String()},
			"kubernetes":    {s.Plan.API.String()},
		} {
			looksUp(t, plainPod, name, want)
		}
	})
	t.Run("gateway gone", func(t *testing.T) { dnsWithoutGateway(t, m) })
	t.Run("gateway back", func(t *testing.T) {
		awaitGateways(t, other, n1)
		knows(t, "gateway back", m, resolvers, true)
	})
}

// lookup checks what a nameserver says of a name; no address: that there is none.
func lookup(ctx context.Context, h *world.Host, network string, server netip.Addr, name string, f int, want netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	got, err := rig.Lookup(ctx, h, network, server, name, f)
	switch {
	case !want.IsValid() && err == nil && len(got) == 0:
		return nil
	case !want.IsValid() && err != nil && strings.Contains(err.Error(), "NameError"): // RFC 1035's NXDOMAIN
		return nil
	case err == nil && !slices.Equal(got, []netip.Addr{want}):
		return fmt.Errorf("%s is %v, want %v", name, got, want)
	}
	return err
}

// knows checks the names of all kinds with nameservers, over UDP and TCP; those of the tailnet are known or not.
func knows(t *testing.T, what string, h *world.Host, servers []netip.Addr, tailnets bool) {
	t.Helper()
	plain := s.Rig.Nodes[rig.Plain]
	for _, server := range servers {
		for _, network := range []string{"udp", "tcp"} {
			for _, f := range families {
				want := map[string]netip.Addr{
					plain.Name + "." + s.Rig.Tailnet.Domain(): plain.Tail(f),
					rig.CorpName:    rig.Known(rig.CorpName, f),
					rig.OutsideName: rig.Known(rig.OutsideName, f),
					rig.ClusterName: pick(f, s.Plan.API),
				}
				if !tailnets {
					want[plain.Name+"."+s.Rig.Tailnet.Domain()], want[rig.CorpName] = netip.Addr{}, netip.Addr{}
				}
				for name, addr := range want {
					// A first answer may wait for a handshake: ask again as a stub resolver does.
					_, err := eventually(t, func(ctx context.Context) error { return lookup(ctx, h, network, server, name, f, addr) })
					if err != nil {
						t.Errorf("%s, %s asks %v over %s for %s, IPv%d: %v", what, h.Name, server, network, name, f, err)
					}
				}
			}
		}
	}
}

// looksUp checks what a program in the pod finds by its /etc/resolv.conf.
func looksUp(t *testing.T, p *corev1.Pod, name string, want []string) {
	t.Helper()
	got := strings.Fields(mustIn(t, p, "lookup", name))
	slices.Sort(got)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("in pod %s, %s is %q, want %q", p.Name, name, got, want)
	}
}

// dnsLimit is how long the cluster's names may be unknown when a gateway goes, to programs that ask again.
const dnsLimit = 4 * time.Second

// dnsWithoutGateway asks for one of the cluster's names again and again while the gateway goes.
func dnsWithoutGateway(t *testing.T, m *world.Host) {
	t.Helper()
	server := s.Plan.DNS[0]
	f := familyOf(s.Plan.API)
	pods, err := gatewayPods(within(t, time.Minute), other)
	if err != nil {
		t.Fatal(err)
	}
	gw := pods[n1]
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		deletePod(t, &gw)
	}()
	good, longest, asked := time.Now(), time.Duration(0), 0
	for done := false; !done || time.Since(good) > 100*time.Millisecond; {
		select {
		case <-gone:
			done = true
		default:
		}
		err := lookup(t.Context(), m, "udp", server, rig.ClusterName, f, s.Plan.API)
		asked++
		longest = max(longest, time.Since(good))
		if err == nil {
			good = time.Now()
		}
		if longest > slow {
			t.Fatalf("no answer for %v: %v", longest, err)
		}
	}
	t.Logf("asked %d times, the longest without an answer was %v", asked, longest.Round(time.Millisecond))
	if longest > dnsLimit {
		t.Errorf("the cluster's names were unknown for %v, want at most %v", longest, dnsLimit)
	}
}
