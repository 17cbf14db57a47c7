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

	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// TestSubnetRouterReachability: routes given are steered, live; without any, those that the gateway accepts are, as they come
// and go. The tailnet's own addresses, 4via6 among them, are in any case. A route into the cluster changes nothing.
func TestSubnetRouterReachability(t *testing.T) {
	if s.Org != nil {
		realSubnets(t)
		return
	}
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) {
		g.Mode, g.Routes = v1alpha1.ModeSubnet, []string{rig.SubnetV4.String()}
	})
	pod, outsider := startPod(t, "subnet", n1, otherMember), startPod(t, "outsider", n1, nil)
	awaitPods(t, pod, outsider)
	awaitGateways(t, other, n1)
	m, x := enter(t, pod), enter(t, outsider)
	backend := s.Rig.Backend
	// The router masquerades: what is behind it sees its address there.
	router4, router6 := rig.SubnetV4.Addr().Next(), rig.SubnetV6.Addr().Next()

	t.Run("routes given", func(t *testing.T) {
		awaitSeen(t, "a subnet", m, backend.V4, router4)
		carries(t, m, backend.V4)
		notSteered(t, m, rig.SubnetV6)
		closed(t, m, netip.AddrPortFrom(backend.V6, 80))
		patchOther(t, fmt.Sprintf(`{"routes":[%q,%q]}`, rig.SubnetV4, rig.SubnetV6))
		awaitSeen(t, "a route added", m, backend.V6, router6)
		carries(t, m, backend.V6)
		patchOther(t, fmt.Sprintf(`{"routes":[%q]}`, rig.SubnetV6))
		awaitNotSteered(t, m, rig.SubnetV4)
		closed(t, m, netip.AddrPortFrom(backend.V4, 80))
		awaitSeen(t, "a route that stays", m, backend.V6, router6)
	})
	t.Run("4via6", func(t *testing.T) {
		to := rig.Via.Addr(s.Rig.ViaBackend.V4)
		awaitSeen(t, "a 4via6 address", m, to, rig.Via.V4.Addr().Next())
		closed(t, x, netip.AddrPortFrom(to, 80))
	})
	t.Run("routes not accepted", func(t *testing.T) {
		patchOther(t, fmt.Sprintf(`{"routes":[%q,%q]}`, rig.SubnetV4, rig.SubnetV6))
		awaitSeen(t, "both steered", m, backend.V4, router4)
		end := watchEth0(t, m, onlyTunnel)
		patchOther(t, `{"acceptRoutes":false}`)
		for _, f := range families {
			awaitRefused(t, "acceptRoutes off", m, addr(backend, f))
			spray(t, m, addr(backend, f))
			boundIsRefused(t, m, addr(backend, f))
		}
		end()
		patchOther(t, `{"acceptRoutes":true}`)
		awaitSeen(t, "acceptRoutes on", m, backend.V4, router4)
	})
	t.Run("routes mirrored", func(t *testing.T) {
		patchOther(t, `{"routes":null}`)
		awaitSeen(t, "mirrored", m, backend.V4, router4)
		awaitSeen(t, "mirrored", m, backend.V6, router6)
		router := s.Rig.Nodes[rig.SubnetRouter].Name
		approve(t, router, rig.SubnetV6)
		awaitNotSteered(t, m, rig.SubnetV4)
		closed(t, m, netip.AddrPortFrom(backend.V4, 80))
		awaitSeen(t, "a route that stays", m, backend.V6, router6)
		approve(t, router, rig.SubnetV4, rig.SubnetV6)
		awaitSeen(t, "a route that came back", m, backend.V4, router4)
	})
	t.Run("outsider", func(t *testing.T) {
		for _, f := range families {
			closed(t, x, netip.AddrPortFrom(addr(backend, f), 80))
		}
	})
	t.Run("routes into the cluster", func(t *testing.T) { intoCluster(t, m, x, outsider.Name) })
}

// approve changes which routes of a node are approved.
func approve(t *testing.T, node string, routes ...netip.Prefix) {
	t.Helper()
	if err := s.Rig.Tailnet.ApproveRoutes(node, routes...); err != nil {
		t.Fatal(err)
	}
}

// steered reports whether a prefix is in the member's own table.
func steered(t *testing.T, h *world.Host, p netip.Prefix) bool {
	t.Helper()
	return strings.Contains(memberTable(t, h), p.String()+" ")
}

// memberTable shows what is in the table of a member, both families.
func memberTable(t *testing.T, h *world.Host) string {
	t.Helper()
	table := fmt.Sprint(ident.TableMember)
	return ip(t, h, "-4", "route", "show", "table", table) + "\n" + ip(t, h, "-6", "route", "show", "table", table)
}

func notSteered(t *testing.T, h *world.Host, p netip.Prefix) {
	t.Helper()
	if steered(t, h, p) {
		t.Errorf("%v is steered:\n%s", p, memberTable(t, h))
	}
}

// awaitNotSteered waits until a prefix is not steered any more.
func awaitNotSteered(t *testing.T, h *world.Host, p netip.Prefix) {
	t.Helper()
	took, err := eventually(t, func(context.Context) error {
		if steered(t, h, p) { //nolint:contextcheck // it takes a moment, and the test's own limit will do
			return fmt.Errorf("%v is still steered", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v is not steered any more after %v", p, took)
}

// intoCluster advertises CIDRs of the cluster, and some that cover it, to a group that mirrors routes.
func intoCluster(t *testing.T, m, x *world.Host, xName string) {
	t.Helper()
	plan := s.Plan
	inside := slices.Concat(plan.Node(n1).PodNets, plan.ServiceNets)
	var covering []netip.Prefix
	if len(s.Cluster.CIDRs()) == 0 {
		covering = append(covering, plan.PodNets...) // as nodes have their parts of it
	} else {
		inside = append(inside, plan.PodNets...)
	}
	for _, p := range plan.PodNets {
		wide := 8 // 10.0.0.0/8
		if p.Addr().Is6() {
			wide = 32 // fd00:10::/32
		}
		covering = append(covering, netip.PrefixFrom(p.Addr(), wide).Masked())
	}
	advertise(t, "wide", slices.Concat(inside, covering)...)
	for _, c := range covering {
		if _, err := eventually(t, func(context.Context) error {
			if !steered(t, m, c) { //nolint:contextcheck // as above
				return fmt.Errorf("%v is not steered", c)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range inside {
		notSteered(t, m, p)
	}
	end := watchEth0(t, m, func(p rig.Packet) bool { return ident.MemberV4.Contains(p.Src) || ident.MemberV6.Contains(p.Src) })
	inCluster(t, "with a route over the cluster", m, x, xName)
	for _, f := range clusterFamilies() {
		asks(t, "a pod asks the member", x, netip.AddrPortFrom(addr(m, f), 8080), m.Name, addr(x, f))
	}
	end()
	condition := awaitGatewayCondition(t, other, n1, v1alpha1.ConditionRoutesSteered, "False")
	t.Logf("RoutesSteered: %s %s", condition.Reason, condition.Message)
	for _, p := range inside {
		if !strings.Contains(condition.Message, p.String()) {
			t.Errorf("RoutesSteered does not name %v: %q", p, condition.Message)
		}
	}
	if sn, err := snapshotOf(t, other, n1); err != nil || !sn.Ready {
		t.Errorf("the gateway is not ready with such routes: %+v, %v", sn, err)
	}
	// The kubelet's probes of the gateway itself, from the node.
	pods, err := gatewayPods(within(t, time.Minute), other)
	gw := pods[n1]
	if err != nil || !ready(gw) {
		t.Errorf("the gateway's pod is not ready with such routes: %+v, %v", gw.Status, err)
	}
	node, gwHost := enterNode(t, n1), enter(t, &gw)
	for _, f := range clusterFamilies() {
		if _, err := rig.GetPage(within(t, quick), node, netip.AddrPortFrom(addr(gwHost, f), gatewayPort), "/healthz"); err != nil {
			t.Errorf("the node's probe of the gateway: %v", err)
		}
	}
}

// advertise has a node of that name advertise routes, until the test ends.
func advertise(t *testing.T, name string, routes ...netip.Prefix) {
	t.Helper()
	h := s.Rig.World.Host(name)
	if h == nil {
		var err error
		if h, err = s.Rig.AddHost(name); err != nil {
			t.Fatal(err)
		}
	}
	key := s.Rig.Tailnet.CreateKey(tailnet.KeyOptions{Preauthorized: true, Ephemeral: true, Tags: []string{"tag:node"}})
	p, err := peer.Start(within(t, time.Minute), h, peer.Config{
		Name: name, ControlURL: s.Rig.Tailnet.ControlURL(), AuthKey: key.Secret, Routes: routes, Ephemeral: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		s.Rig.Tailnet.DeleteNode(tailcfg.StableNodeID(p.StableID))
	})
}

// inCluster checks what of the cluster every pod reaches, a member as any other: its resolver, the API server, pods
// and nodes. x is another pod of the test image.
func inCluster(t *testing.T, what string, m, x *world.Host, xName string) {
	t.Helper()
	for _, dns := range s.Plan.DNS {
		for _, network := range []string{"udp", "tcp"} {
			got, err := rig.Lookup(within(t, quick), m, network, dns, rig.ClusterName, familyOf(s.Plan.API))
			if err != nil || !slices.Equal(got, []netip.Addr{s.Plan.API}) {
				t.Errorf("%s: %s at %v over %s is %v, want %v; %v", what, rig.ClusterName, dns, network, got, s.Plan.API, err)
			}
		}
	}
	if c, err := m.Dial(within(t, quick), "tcp", netip.AddrPortFrom(s.Plan.API, 443).String()); err != nil {
		t.Errorf("%s: the API server: %v", what, err)
	} else if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range clusterFamilies() {
		asks(t, what+", a pod", m, netip.AddrPortFrom(addr(x, f), 8080), xName, addr(m, f))
		if err := rig.Ping(within(t, quick), m, pick(f, s.Plan.Node(n2).Addrs...)); err != nil {
			t.Errorf("%s: a node: %v", what, err)
		}
	}
}

// TestAppConnectorReachability: the route of an app connector is a route as any other.
func TestAppConnectorReachability(t *testing.T) {
	if s.Org != nil {
		realApp(t)
		return
	}
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) { g.Mode = v1alpha1.ModeSubnet })
	pod, outsider := startPod(t, "app", n1, otherMember), startPod(t, "outsider", n1, nil)
	awaitPods(t, pod, outsider)
	awaitGateways(t, other, n1)
	m, x := enter(t, pod), enter(t, outsider)
	saas, connector := s.Rig.SaaS, s.Rig.Nodes[rig.AppConnector]
	awaitSeen(t, "an app", m, saas.V4, rig.AppV4.Addr().Next())
	carries(t, m, saas.V4)
	closed(t, x, netip.AddrPortFrom(saas.V4, 80))
	learns(t, m, x)
	// As a route that the connector learned for an app goes and comes.
	end := watchEth0(t, m, func(p rig.Packet) bool { return topology.TailnetPrefixes()[0].Contains(p.Dst) })
	approve(t, connector.Name)
	awaitNotSteered(t, m, rig.AppV4)
	approve(t, connector.Name, rig.AppV4)
	awaitSeen(t, "an app again", m, saas.V4, rig.AppV4.Addr().Next())
	end()
}

// learns has the app connector learn the addresses of an app from a member that asks the tailnet's resolver for them; x is no member.
func learns(t *testing.T, m, x *world.Host) {
	t.Helper()
	app := s.Rig.App
	for _, f := range []int{4, 6} {
		to, from := pick(f, app.V4, app.V6), pick(f, rig.LearnedV4.Addr().Next(), rig.LearnedV6.Addr().Next())
		if steered(t, m, netip.PrefixFrom(to, to.BitLen())) {
			t.Fatalf("%v is steered before anybody has asked for the app", to)
		}
		for _, resolver := range []netip.Addr{tsaddr.TailscaleServiceIP(), tsaddr.TailscaleServiceIPv6()} {
			if _, err := eventually(t, func(ctx context.Context) error { return lookup(ctx, m, "udp", resolver, rig.AppName, f, to) }); err != nil {
				t.Fatalf("%s by %v: %v", rig.AppName, resolver, err)
			}
		}
		awaitSeen(t, "a learned address of an app", m, to, from)
		closed(t, x, netip.AddrPortFrom(to, 80))
	}
}
