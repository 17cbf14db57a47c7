//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// exitScene is a pod that others ask by every way there is, and that asks others.
type exitScene struct {
	pod, far *corev1.Pod
	m, x     *world.Host        // pod and far, on another node
	node     *world.Host        // pod's
	services map[int]netip.Addr // of far, by family
}

// Ports of the pod on its node.
const (
	hostPort = 18080
	nodePort = 30080
)

// Addresses that mean something on each node: cloud metadata and NodeLocal DNS.
var nodesOwn = []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.20.10")}

// TestExitNodeFullTunnel: members reach all there is by the exit node, as it changes, and nothing but what is the
// cluster's any other way. What the pod did with the cluster, and others with it, goes on before, during and after.
func TestExitNodeFullTunnel(t *testing.T) {
	if s.Org != nil {
		realExit(t)
		return
	}
	exitA, exitB := s.Rig.Nodes[rig.ExitA], s.Rig.Nodes[rig.ExitB]
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) { g.ExitNode = &v1alpha1.ExitNode{NodeID: exitA.ID} })
	e := newExitScene(t)
	internet := s.Rig.Internet
	direct := func(what string) {
		t.Helper()
		for _, f := range clusterFamilies() {
			awaitSeen(t, what+", the internet", e.m, addr(internet, f), addr(e.m, f))
		}
	}
	through := func(what string, exit *rig.Node) {
		t.Helper()
		for _, f := range families {
			awaitSeen(t, what+", the internet", e.m, addr(internet, f), addr(exit.Host, f))
		}
	}

	direct("no member yet")
	e.existing(t, "no member yet")
	e.fromOutside(t, "no member yet")
	// A connection from outside the cluster that is there before its pod joins, and stays.
	inbound := e.streamFrom(t, internet)
	label(t, e.pod, otherMember)
	awaitGateways(t, other, n1)
	through("exit node", exitA)
	t.Run("traffic", func(t *testing.T) {
		for _, f := range families {
			carries(t, e.m, addr(internet, f))
			awaitSeen(t, "a peer", e.m, s.Rig.Nodes[rig.Plain].Tail(f), pick(f, tailnetAddrs(t, other, n1)...))
		}
	})
	t.Logf("the connection that came in before the pod joined: %v", inbound.Stats())
	t.Run("existing traffic", func(t *testing.T) { e.existing(t, "exit node") })
	t.Run("from outside", func(t *testing.T) { e.fromOutside(t, "exit node") })
	t.Run("kernel state", func(t *testing.T) { e.state(t) })
	t.Run("switched live", func(t *testing.T) {
		end := watchEth0(t, e.m, e.leaves)
		patchOther(t, fmt.Sprintf(`{"exitNode":{"nodeID":%q}}`, exitB.Name+"."+s.Rig.Tailnet.Domain()))
		through("switched", exitB)
		end()
	})
	t.Run("exit node gone", func(t *testing.T) {
		end := watchEth0(t, e.m, e.leaves)
		approve(t, exitB.Name)
		for _, f := range families {
			awaitRefused(t, "no exit node", e.m, addr(internet, f))
			spray(t, e.m, addr(internet, f))
			boundIsRefused(t, e.m, addr(internet, f))
		}
		end()
		e.existing(t, "no exit node")
		e.fromOutside(t, "no exit node")
		c := awaitCondition(t, other, v1alpha1.ConditionExitNodeReady, metav1.ConditionFalse)
		t.Logf("ExitNodeReady: %s %s", c.Reason, c.Message)
		approve(t, exitB.Name, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		through("exit node back", exitB)
	})
	t.Run("gateway gone", func(t *testing.T) {
		end := watchEth0(t, e.m, e.leaves)
		gw := podOfN1(t, other)
		deletePod(t, &gw)
		for _, f := range families {
			spray(t, e.m, addr(internet, f))
		}
		e.existing(t, "gateway gone")
		e.fromOutside(t, "gateway gone")
		through("gateway back", exitB)
		end()
	})
	if err := inbound.WaitMoved(within(t, slow)); err != nil {
		t.Errorf("the connection that came in before the pod joined: %v", err)
	}
	t.Logf("the connection that came in before the pod joined: %v", inbound.Stats())
	patchOther(t, `{"exitNode":null}`)
	direct("exit node removed")
	e.existing(t, "exit node removed")
	e.fromOutside(t, "exit node removed")
	if st := inbound.Stop(); st.Err != nil {
		t.Errorf("the connection that came in before the pod joined: %v", st.Err)
	}
	t.Run("probes passed", func(t *testing.T) { e.probed(t) })
}

// newExitScene starts the pods, with a Service each, and makes addresses that are the node's own.
func newExitScene(t *testing.T) *exitScene {
	t.Helper()
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3,
	}
	e := &exitScene{
		pod: startPod(t, "exit", n1, map[string]string{"app": "exit"}, func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: hostPort}}
			c.ReadinessProbe, c.LivenessProbe = probe, probe
		}),
		far:      startPod(t, "far", n2, map[string]string{"app": "far"}),
		services: map[int]netip.Addr{},
	}
	awaitPods(t, e.pod, e.far)
	e.m, e.x, e.node = enter(t, e.pod), enter(t, e.far), enterNode(t, n1)
	service(t, "exit", func(sp *corev1.ServiceSpec) {
		sp.Type, sp.Ports[0].NodePort, sp.ExternalTrafficPolicy = corev1.ServiceTypeNodePort, nodePort, corev1.ServiceExternalTrafficPolicyLocal
	})
	for _, ip := range service(t, "far", func(*corev1.ServiceSpec) {}).Spec.ClusterIPs {
		a := netip.MustParseAddr(ip)
		e.services[familyOf(a)] = a
	}
	e.awaitServices(t)
	for _, a := range nodesOwn {
		if err := e.node.Do(func() error { return addToLoopback(a) }); err != nil {
			t.Fatal(err)
		}
		serveIn(t, e.node, netip.AddrPortFrom(a, 80), peer.Handler("node"))
	}
	t.Cleanup(func() {
		for _, a := range nodesOwn {
			if err := e.node.Do(func() error { return dropFromLoopback(a) }); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

// awaitServices waits until kube-proxy has heard of the Services: it may look only once a second.
func (e *exitScene) awaitServices(t *testing.T) {
	t.Helper()
	for _, f := range clusterFamilies() {
		for h, to := range map[*world.Host]netip.AddrPort{
			e.m: netip.AddrPortFrom(e.services[f], 8080), s.Rig.Cluster: netip.AddrPortFrom(pick(f, s.Plan.Node(n1).Addrs...), nodePort),
		} {
			_, err := eventually(t, func(ctx context.Context) error {
				_, _, err := askTool(ctx, h, to)
				return err
			})
			if err != nil {
				t.Fatalf("a Service: %v", err)
			}
		}
	}
}

// service makes a Service for the pod with that label, on port 8080 and in all families of the cluster.
func service(t *testing.T, app string, change func(*corev1.ServiceSpec)) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: metav1.NamespaceDefault},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 8080}},
			IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack),
		},
	}
	change(&svc.Spec)
	if err := s.Client.Create(within(t, time.Minute), svc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(s.Client.Delete(context.WithoutCancel(t.Context()), svc)); err != nil {
			t.Error(err)
		}
	})
	return svc
}

func addToLoopback(a netip.Addr) error    { return onLoopback(a, netlink.AddrReplace) }
func dropFromLoopback(a netip.Addr) error { return onLoopback(a, netlink.AddrDel) }

func onLoopback(a netip.Addr, do func(netlink.Link, *netlink.Addr) error) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return do(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}})
}

// leaves reports whether a packet is one that the exit node is to carry. What the pod answers to who asked by eth0 is none.
func (e *exitScene) leaves(p rig.Packet) bool {
	return onlyTunnel(p) && p.Sport != 8080 && p.Sport != 7
}

// streamFrom runs a stream from a host outside the cluster to the pod by its own address.
func (e *exitScene) streamFrom(t *testing.T, h *world.Host) *rig.Stream {
	t.Helper()
	ln, err := e.m.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go echo(ln)
	st, err := rig.StartStream(within(t, slow), h, addr(e.m, clusterFamilies()[0]), 256<<10)
	if err == nil {
		err = st.WaitMoved(within(t, slow))
	}
	if err != nil {
		t.Fatalf("a stream from %s to the pod: %v", h.Name, err)
	}
	t.Cleanup(func() { st.Stop() })
	return st
}

// echo sends back what comes, until ln is closed.
func echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// existing checks all that the pod does with the cluster, and the cluster with it.
func (e *exitScene) existing(t *testing.T, what string) {
	t.Helper()
	inCluster(t, what, e.m, e.x, e.far.Name)
	own := s.Plan.Node(n1).PodNets
	for _, f := range clusterFamilies() {
		// The node's own towards its pods, with either plugin.
		node := pick(f, own[0].Addr().Next(), own[len(own)-1].Addr().Next())
		asks(t, what+", a Service", e.m, netip.AddrPortFrom(e.services[f], 8080), e.far.Name, addr(e.m, f))
		asks(t, what+", asked by a pod", e.x, netip.AddrPortFrom(addr(e.m, f), 8080), e.pod.Name, addr(e.x, f))
		asks(t, what+", asked by its node", e.node, netip.AddrPortFrom(addr(e.m, f), 8080), e.pod.Name, node)
	}
	for _, a := range nodesOwn {
		var err error
		if e.m.V4.IsValid() {
			err = seen(within(t, slow), e.m, a, e.m.V4)
		} else {
			// Without IPv4 of the cluster's, the pod's only IPv4 is the tailnet's, which is no way to them.
			err = refusedBy(within(t, slow), e.m, a)
		}
		if err != nil {
			t.Errorf("%s, the node's own: %v", what, err)
		}
	}
}

// fromOutside checks that clients outside of the cluster reach the pod by way of its node, which it sees as they are.
func (e *exitScene) fromOutside(t *testing.T, what string) {
	t.Helper()
	for _, f := range clusterFamilies() {
		node := pick(f, s.Plan.Node(n1).Addrs...)
		for _, outside := range []*world.Host{s.Rig.Internet, s.Rig.Cluster} {
			asks(t, what+", asked by NodePort", outside, netip.AddrPortFrom(node, nodePort), e.pod.Name, addr(outside, f))
			asks(t, what+", asked by hostPort", outside, netip.AddrPortFrom(node, hostPort), e.pod.Name, addr(outside, f))
		}
	}
}

// state compares what is in the pod's kernel with what there should be, as design says: table 7717 with default routes and a
// kill switch behind, rules in front that keep the cluster on main.
func (e *exitScene) state(t *testing.T) {
	t.Helper()
	k, err := kernel.Open(e.m.Handle(), kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	have, err := k.Observe(topology.MemberScope())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(have.Links, func(l netstate.Link) bool { return l.Name == ident.MemberLink })
	if i < 0 {
		t.Fatalf("there is no link:\n%v", have)
	}
	direct := slices.Clone(s.Plan.ServiceNets)
	for _, n := range s.Plan.Nodes {
		direct = slices.Concat(direct, n.PodNets)
		for _, a := range n.Addrs {
			direct = append(direct, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, p := range append(direct, netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("127.0.0.0/8")) {
		if !covered(have.Rules, p) {
			t.Errorf("no rule keeps %v on main:\n%v", p, have)
		}
	}
	want := topology.Member{
		Alias: strings.TrimPrefix(have.Links[i].Alias, ident.AliasPrefix), Slot: ident.MemberSlot(have.Links[i].MAC),
		Prefixes: topology.TailnetPrefixes(), Exit: true,
	}.State()
	have.Rules, want.Rules = nil, nil // as above
	if plan := netstate.Diff(have, want); len(plan) > 0 {
		t.Errorf("in the pod there is\n%v\nwant\n%v\nthat would take\n%v", have, want, plan)
	}
	if table := memberTable(t, e.m); !strings.Contains(table, "default via "+ident.GatewayV4.String()) || strings.Count(table, "unreachable default") != 2 {
		t.Errorf("table %d has no default routes with a kill switch behind:\n%s", ident.TableMember, table)
	}
	if main := ip(t, e.m, "route", "show", "table", "main") + ip(t, e.m, "-6", "route", "show", "table", "main"); strings.Contains(main, "via "+ident.GatewayV4.String()) || strings.Contains(main, "proto 77") {
		t.Errorf("the pod's main table has what is not its own:\n%s", main)
	}
}

// covered reports whether one of the rules for what stays direct holds all of p. Nodes and their pods may have been
// taken together.
func covered(rules []netstate.Rule, p netip.Prefix) bool {
	return slices.ContainsFunc(rules, func(r netstate.Rule) bool {
		return r.Priority == ident.RuleDirect && r.Table == ident.TableMain && r.Dst.Bits() <= p.Bits() && r.Dst.Contains(p.Addr())
	})
}

// probed checks that the kubelet, which probes the pod each second, found nothing wrong.
func (e *exitScene) probed(t *testing.T) {
	t.Helper()
	p := new(corev1.Pod)
	if err := s.Client.Get(within(t, time.Minute), client.ObjectKeyFromObject(e.pod), p); err != nil {
		t.Fatal(err)
	}
	since := time.Time{}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			since = c.LastTransitionTime.Time
		}
	}
	began := p.Status.ContainerStatuses[0].State.Running.StartedAt.Time
	if !ready(*p) || p.Status.ContainerStatuses[0].RestartCount != 0 || since.Sub(began) > 3*time.Second {
		t.Errorf("a probe failed: ready %v since %v, started %v, %d restarts", ready(*p), since, began, p.Status.ContainerStatuses[0].RestartCount)
	}
}
