//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// identityOf is what changes in a namespace when something is made anew, even if it is the same: numbers of links, handles of
// nftables, and all of stateOf.
const identityOf = `ip -o link; nft -s -a list ruleset; ` + stateOf

// stream is a ping of a member's, a hundred times a second.
type stream struct {
	p    *lifePod
	to   netip.Addr
	ping *rig.Pinger
}

// streams starts pings of members to what their groups reach, in both families.
func (l *life) streams(t *testing.T, node string) (all []stream) {
	t.Helper()
	plain := s.Rig.Nodes[rig.Plain]
	for _, x := range []stream{
		{p: l.peers[node], to: plain.Tail4}, {p: l.peers[node], to: plain.Tail6},
		{p: l.exiting[node], to: s.Rig.Internet.V4}, {p: l.exiting[node], to: s.Rig.Internet.V6},
	} {
		var err error
		if x.ping, err = rig.StartPing(t.Context(), x.p.host, x.to, 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if err := x.ping.WaitAnswer(within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// agentReplaced: an agent that ends, in whatever way, and the next one change nothing in any namespace, and cost no packet.
func (l *life) agentReplaced(t *testing.T) {
	t.Helper()
	gateways := map[string]*netns.Handle{peers: openGateway(t, peers, n1), exiting: openGateway(t, exiting, n1)}
	namespaces := map[string]*netns.Handle{
		"member": l.peers[n1].ns, "member with an exit node": l.exiting[n1].ns, "pod": l.free.ns,
		"gateway of peers": gateways[peers], "gateway with an exit node": gateways[exiting], "node": openNode(t, n1),
	}
	before := map[string]string{}
	for name, ns := range namespaces {
		before[name] = sh(t, ns, identityOf)
	}
	node := openNode(t, n1)
	pings := l.streams(t, n1)
	container := awaitAgent(t, n1, "")
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"pod deleted", func() { deleteAgent(t, n1) }},
		{"killed", func() {
			if err := unix.Kill(mustProcess(t, node, "tailgate-agent"), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}},
		{"helm upgrade with another value", func() { upgrade(t, "agent.log.level=debug") }},
		{"helm upgrade back", func() { upgrade(t, "agent.log.level=info") }},
	} {
		step.do()
		container = awaitAgent(t, n1, container)
		for name, ns := range namespaces {
			if got := sh(t, ns, identityOf); got != before[name] {
				t.Errorf("%s: the namespace of the %s is another:\n%s", step.name, name, lineDiff(before[name], got))
			}
		}
		for _, x := range pings {
			if err := x.ping.WaitAnswer(within(t, 10*time.Second)); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
	}
	for _, x := range pings {
		if st := x.ping.Stop(); st.Lost > 0 && !rebound(st) {
			t.Errorf("%s to %v: %v", x.p.Name, x.to, st)
		} else {
			t.Logf("%s to %v: %v", x.p.Name, x.to, st)
		}
	}
	awaitAgent(t, n2, "")
}

// rebound reports whether what was lost may have been lost by Tailscale's engine. Where it has no IPv4 it takes its sockets for broken
// because its probes cannot be sent by IPv4, and binds them anew with each check of the network, more than 20 s apart
// (tailscale.com/wgengine/magicsock, updateEndpoints: "last netcheck reported send error"); what waits in them then is lost.
func rebound(st rig.PingStats) bool {
	return *family == string(lab.V6) && st.LastLost.Sub(st.FirstLost) < 100*time.Millisecond
}

// deleteAgent deletes the agent's pod on a node, as a rollout does.
func deleteAgent(t *testing.T, node string) {
	t.Helper()
	p, err := agentPod(within(t, time.Minute), node)
	if err == nil && p != nil {
		err = s.Client.Delete(within(t, time.Minute), p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// upgrade upgrades the installation with one value changed.
func upgrade(t *testing.T, value string) {
	t.Helper()
	out, err := s.Helm(within(t, 2*time.Minute), "upgrade", stage.Release, s.Chart(), "--namespace", stage.Namespace,
		"--reuse-values", "--set", value, "--wait", "--timeout", "2m")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// awaitOtherGateway waits until a ready gateway on the node is another pod.
func awaitOtherGateway(t *testing.T, group, node string, old types.UID) {
	t.Helper()
	await(t, 90*time.Second, fmt.Sprintf("another gateway of %s on %s", group, node), func(ctx context.Context) (string, error) {
		pods, err := gatewayPods(ctx, group)
		if p, ok := pods[node]; err == nil && ok && p.UID != old && ready(p) {
			return "", nil
		}
		return "not yet", err
	}, &corev1.PodList{})
}

func gatewayOn(t *testing.T, group, node string) *corev1.Pod {
	t.Helper()
	pods, err := gatewayPods(within(t, time.Minute), group)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := pods[node]
	if !ok {
		t.Fatalf("%s has no gateway on %s", group, node)
	}
	return &p
}

// gatewayReplaced: members move to the next gateway, which is the same device.
func (l *life) gatewayReplaced(t *testing.T) {
	t.Helper()
	device := deviceOf(t, peers, n1)
	for _, step := range []struct {
		name string
		do   func(old *corev1.Pod)
	}{
		{"pod deleted", func(old *corev1.Pod) {
			if err := s.Client.Delete(within(t, time.Minute), old); err != nil {
				t.Fatal(err)
			}
		}},
		{"resources changed", func(*corev1.Pod) {
			kubectl(t, "patch", "eg", peers, "--type=merge", "-p", `{"spec":{"gateway":{"resources":{"requests":{"cpu":"21m","memory":"64Mi"},"limits":{"memory":"500Mi"}}}}}`)
		}},
	} {
		ping, err := rig.StartPing(t.Context(), l.peers[n1].host, s.Rig.Nodes[rig.Plain].Tail4, 10*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		old := gatewayOn(t, peers, n1)
		l.leaks.keptIn(t, step.name, func() {
			step.do(old)
			awaitOtherGateway(t, peers, n1, old.UID)
			reaches(t, l.peers[n1].host, s.Rig.Nodes[rig.Plain].Tail4)
		})
		t.Logf("%s: %v", step.name, ping.Stop())
		if got := deviceOf(t, peers, n1); got[0] != device[0] {
			t.Errorf("%s: the device was %v and is %v", step.name, device, got)
		}
		seenAs(t, l.peers[n1], peers)
	}
	awaitGateways(t, peers, n1, n2)
	reaches(t, l.peers[n2].host, s.Rig.Nodes[rig.Plain].Tail4)
}
