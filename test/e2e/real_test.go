//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// With a tailnet of a Tailscale organization there is no world of namespaces around the cluster: what the tailnet's nodes see is
// what their web servers say, and what members do is done by tools in them. A node that routes answers itself for what is behind
// it; see package userspace.

// tailNode is a node of the tailnet, whichever it is.
type tailNode struct {
	Name, ID string
	V4, V6   netip.Addr
}

func (n tailNode) addr(f int) netip.Addr { return pick(f, n.V4, n.V6) }

func nodeOf(role rig.Role) tailNode {
	if s.Org != nil {
		n := s.Org.Nodes[role]
		return tailNode{string(role), n.ID, n.V4, n.V6}
	}
	n := s.Rig.Nodes[role]
	return tailNode{n.Name, n.ID, n.Tail4, n.Tail6}
}

// domain is the tailnet's.
func domain() string {
	if s.Org != nil {
		return s.Org.Domain
	}
	return s.Rig.Tailnet.Domain()
}

// hermetic skips a test that needs to look into the tailnet, or to break it.
func hermetic(t *testing.T, why string) {
	t.Helper()
	if s.Org != nil {
		t.Skip("not with a tailnet of an organization: " + why)
	}
}

// awaitVia waits until a pod is answered at an address by a node of the tailnet, which sees the group's gateway on the pod's node.
func awaitVia(t *testing.T, p *corev1.Pod, group string, to netip.Addr, via rig.Role) {
	t.Helper()
	own := tailnetAddrs(t, group, p.Spec.NodeName)
	took, err := eventually(t, func(context.Context) error {
		from, by, err := whoAmI(t, p, to) //nolint:contextcheck // it has a limit of its own
		if err == nil && (by != string(via) || from != pick(familyOf(to), own...)) {
			err = fmt.Errorf("%v is answered by %s, which sees %v, want %s, which sees %v", to, by, from, via, own)
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	t.Logf("%s is answered at %v by %s after %v", p.Name, to, via, took)
}

// awaitUnanswered waits until a pod is not answered at an address.
func awaitUnanswered(t *testing.T, what string, p *corev1.Pod, to netip.Addr) {
	t.Helper()
	_, err := eventually(t, func(context.Context) error {
		_, by, err := whoAmI(t, p, to) //nolint:contextcheck // it has a limit of its own
		if err == nil {
			return fmt.Errorf("%v is answered by %s", to, by)
		}
		return nil
	})
	if err != nil {
		t.Errorf("%s, %s: %v", what, p.Name, err)
	}
}

func realDatapath(t *testing.T) {
	t.Helper()
	apply(t, peers)
	first, second, outsider := startPod(t, "first", n1, member), startPod(t, "second", n2, member), startPod(t, "outsider", n1, nil)
	awaitPods(t, first, second, outsider)
	awaitGateways(t, peers, n1, n2)
	plain := nodeOf(rig.Plain)
	for _, f := range families {
		to := plain.addr(f)
		for _, p := range []*corev1.Pod{first, second} {
			awaitVia(t, p, peers, to, rig.Plain)
		}
		for _, tool := range []string{"tcp", "udp"} {
			if out := mustIn(t, first, tool, netip.AddrPortFrom(to, 7).String(), "across"); out != "across" {
				t.Errorf("%s to %v is answered %q", tool, to, out)
			}
		}
		awaitUnanswered(t, "no member", outsider, to)
	}
}

func realSubnets(t *testing.T) {
	t.Helper()
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) {
		g.Mode, g.Routes = v1alpha1.ModeSubnet, []string{rig.SubnetV4.String()}
	})
	pod, outsider := startPod(t, "subnet", n1, otherMember), startPod(t, "outsider", n1, nil)
	awaitPods(t, pod, outsider)
	awaitGateways(t, other, n1)
	b4, b6 := netip.MustParseAddr("10.20.0.10"), netip.MustParseAddr("fd20:20::10")
	awaitVia(t, pod, other, b4, rig.SubnetRouter)
	awaitUnanswered(t, "a subnet that is not steered", pod, b6)
	patchOther(t, fmt.Sprintf(`{"routes":[%q,%q]}`, rig.SubnetV4, rig.SubnetV6))
	awaitVia(t, pod, other, b6, rig.SubnetRouter)
	patchOther(t, `{"acceptRoutes":false}`)
	awaitUnanswered(t, "routes not accepted", pod, b4)
	patchOther(t, `{"acceptRoutes":true,"routes":null}`)
	for _, to := range []netip.Addr{b4, b6} {
		awaitVia(t, pod, other, to, rig.SubnetRouter)
		awaitUnanswered(t, "no member", outsider, to)
	}
}

func realApp(t *testing.T) {
	t.Helper()
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) { g.Mode = v1alpha1.ModeSubnet })
	pod, outsider := startPod(t, "app", n1, otherMember), startPod(t, "outsider", n1, nil)
	awaitPods(t, pod, outsider)
	awaitGateways(t, other, n1)
	to := rig.AppV4.Addr().Next().Next()
	awaitVia(t, pod, other, to, rig.AppConnector)
	awaitUnanswered(t, "no member", outsider, to)
}

// realExit has members reach an address that is nobody's, for which only the exit nodes answer.
func realExit(t *testing.T) {
	t.Helper()
	a, b := nodeOf(rig.ExitA), nodeOf(rig.ExitB)
	makeOther(t, func(g *v1alpha1.EgressGroupSpec) { g.ExitNode = &v1alpha1.ExitNode{NodeID: a.ID} })
	pod, far := startPod(t, "exit", n1, otherMember), startPod(t, "far", n2, nil)
	awaitPods(t, pod, far)
	awaitGateways(t, other, n1)
	outside := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:51::7")} // RFC 5737, RFC 3849
	through := func(exit rig.Role) {
		t.Helper()
		for _, to := range outside {
			awaitVia(t, pod, other, to, exit)
		}
	}
	through(rig.ExitA)
	patchOther(t, fmt.Sprintf(`{"exitNode":{"nodeID":%q}}`, b.Name+"."+domain()))
	through(rig.ExitB)
	// The cluster is reached as ever.
	for _, ip := range far.Status.PodIPs {
		to := netip.MustParseAddr(ip.IP)
		if out := mustIn(t, pod, "get", "http://"+netip.AddrPortFrom(to, 8080).String()+"/"); !strings.HasPrefix(out, "host far ") {
			t.Errorf("a pod of the cluster answers %q", out)
		}
	}
	looksUp(t, pod, rig.ClusterName, []string{s.Plan.API.String()})
	patchOther(t, `{"exitNode":null}`)
	for _, to := range outside {
		awaitUnanswered(t, "exit node removed", pod, to)
	}
}

func realDNS(t *testing.T) {
	t.Helper()
	makeOther(t, func(*v1alpha1.EgressGroupSpec) {})
	pod := startPod(t, "unchanged", n1, otherMember)
	awaitPods(t, pod)
	awaitGateways(t, other, n1)
	plain := nodeOf(rig.Plain)
	name := plain.Name + "." + domain()
	knows := func() error {
		out, err := inPod(t, pod, "lookup", name)
		if err == nil && !slices.Contains(strings.Fields(out), plain.V4.String()) {
			err = fmt.Errorf("%s is %q, want %v", name, out, plain.V4)
		}
		return err
	}
	if knows() == nil {
		t.Errorf("%s is known without magicDNS", name)
	}
	patchOther(t, `{"dns":{"magicDNS":true}}`)
	if _, err := eventually(t, func(context.Context) error { return knows() }); err != nil {
		t.Fatal(err)
	}
	looksUp(t, pod, rig.ClusterName, []string{s.Plan.API.String()})
}

// realLife: the first act of a pod that starts is answered; who joins and leaves does so within moments.
func realLife(t *testing.T) {
	t.Helper()
	makeGroup(t, peers, peers)
	plain := nodeOf(rig.Plain)
	members := []*lifePod{{Pod: startPod(t, "life-n1", n1, ofPeers)}, {Pod: startPod(t, "life-n2", n2, ofPeers)}}
	for _, p := range members {
		awaitPods(t, p.Pod)
	}
	awaitGateways(t, peers, n1, n2)
	for _, p := range members {
		awaitVia(t, p.Pod, peers, plain.V4, rig.Plain)
	}
	t.Run("FirstPacket", func(t *testing.T) {
		all := shots("first-", peers, *bursts/3, plain.V4, plain.V6)
		for _, x := range all {
			x.port = 7 // an echo
		}
		fire(t, all)
		for _, x := range all {
			if x.failed != "" {
				t.Errorf("%s on %s to %v: %s", x.name, x.node, x.to, x.failed)
			}
		}
	})
	t.Run("JoinAndLeave", func(t *testing.T) {
		p := &lifePod{Pod: startPod(t, "joins", n1, ofNone)}
		awaitPods(t, p.Pod)
		for range 3 {
			awaitUnanswered(t, "no member", p.Pod, plain.V4)
			mustRelabel(t, p, peers)
			awaitVia(t, p.Pod, peers, plain.V4, rig.Plain)
			mustRelabel(t, p, "")
		}
		awaitUnanswered(t, "left", p.Pod, plain.V4)
	})
}
