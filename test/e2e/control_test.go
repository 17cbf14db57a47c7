//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet"
)

const (
	payments = "payments"
	peers    = "peers"
)

// n1 and n2 are the nodes for pods; both kinds of cluster have two at least.
var n1, n2 string

// apply applies a manifest of deploy/examples as it stands.
func apply(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(s.Root(), "deploy/examples", name+".yaml")
	kubectl(t, "apply", "-f", file)
	t.Cleanup(func() {
		// The test's own context has ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
		defer cancel()
		if out, err := s.Kubectl(ctx, "delete", "--ignore-not-found", "-f", file); err != nil {
			t.Errorf("clean up: %v %s", err, out)
		}
	})
	t.Cleanup(func() { explain(t) })
}

// explain shows what tailgate's pods say when the test failed.
func explain(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods,egw", "-A", "-o", "wide"},
		{"get", "events", "-A"},
		{"logs", "-n", stage.Namespace, "-l", "app.kubernetes.io/part-of=tailgate", "--prefix", "--tail=15"},
		{"logs", "-n", stage.Namespace, "-l", "app.kubernetes.io/name=tailgate-gateway", "--prefix", "--tail=25", "--previous"},
	} {
		out, err := s.Kubectl(ctx, args...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// awaitDevices waits until the tailnet has that many devices with the tag, and returns them.
func awaitDevices(t *testing.T, tag string, n int, limit time.Duration) []tailnet.Node {
	t.Helper()
	began := time.Now()
	err := s.Rig.Tailnet.Wait(within(t, limit), func(tn *tailnet.Tailnet) bool { return len(tn.NodesByTag(tag)) == n })
	devices := s.Rig.Tailnet.NodesByTag(tag)
	if err != nil {
		t.Fatalf("devices with %s: %d after %v, want %d: %v", tag, len(devices), limit, n, err)
	}
	t.Logf("%d devices with %s: after %v", n, tag, time.Since(began).Round(time.Millisecond))
	return devices
}

// awaitKnown waits until the operator can know the devices of a group's gateways. One that comes up with what a device before it left on
// its node names that device for a moment, until the tailnet has said that it is no more.
func awaitKnown(t *testing.T, group string, nodes ...string) {
	t.Helper()
	await(t, 30*time.Second, "the devices are known", func(ctx context.Context) (string, error) {
		for _, node := range nodes {
			egw := new(v1alpha1.EgressGateway)
			if err := s.Client.Get(ctx, client.ObjectKey{Namespace: stage.Namespace, Name: v1alpha1.GatewayName(group, node)}, egw); err != nil {
				return "", err
			}
			if !slices.ContainsFunc(s.Rig.Tailnet.Nodes(), func(n tailnet.Node) bool { return string(n.StableID) == egw.Status.DeviceID }) {
				return fmt.Sprintf("%s names %q", egw.Name, egw.Status.DeviceID), nil
			}
		}
		return "", nil
	}, &v1alpha1.EgressGatewayList{})
}

func TestManifests(t *testing.T) {
	apply(t, payments)
	apply(t, peers)
	awaitTrue(t, payments, v1alpha1.ConditionReady)
	awaitTrue(t, peers, v1alpha1.ConditionReady)
	lines := strings.Split(kubectl(t, "get", "eg"), "\n")
	var got [][]string
	for _, line := range lines {
		got = append(got, strings.Fields(line)[:4])
	}
	want := [][]string{{"NAME", "MODE", "ATTACH", "PODS"}, {"payments", "subnet", "routed", "0"}, {"peers", "cgnat", "routed", "0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kubectl get eg (-want +got):\n%s", diff)
	}
	if f := strings.Fields(lines[0]); len(f) != 5 || f[4] != "AGE" {
		t.Errorf("kubectl get eg has columns %q", f)
	}
	for _, patch := range []string{
		`{"spec":{"routes":["10.0.0.0/8","192.168.0.0/16"]}}`,
		`{"spec":{"exitNode":{"nodeID":"exit-ams1.your-org.ts.net","allowLANAccess":true}}}`,
		`{"spec":{"acceptRoutes":false}}`,
	} {
		kubectl(t, "patch", "eg", payments, "--type=merge", "-p", patch)
		awaitTrue(t, payments, v1alpha1.ConditionConfigRendered)
	}
	if pods, err := gatewayPods(within(t, time.Minute), payments); err != nil || len(pods) != 0 {
		t.Errorf("gateways without members: %d (%v)", len(pods), err)
	}
}

// TestGateways: gateways run where members are, and nowhere else; group and devices go together.
func TestGateways(t *testing.T) {
	hermetic(t, "it looks at the tailnet's devices and keys from inside")
	apply(t, payments)
	apply(t, peers)
	pays := startMembers(t, payments, n1, 3)
	a, b := startMembers(t, peers, n1, 1), startMembers(t, peers, n2, 2)
	awaitPods(t, slices.Concat(pays, a, b)...)
	awaitGateways(t, payments, n1)
	awaitGateways(t, peers, n1, n2)
	for name, want := range map[string]int{payments: 1, peers: 2} {
		for _, d := range awaitDevices(t, "tag:egress-"+name, want, 30*time.Second) {
			if !isDeviceOf(d.Name, name, n1) && !isDeviceOf(d.Name, name, n2) {
				t.Errorf("device of %s is called %s", name, d.Name)
			}
		}
	}
	await(t, 30*time.Second, "status adds up", func(ctx context.Context) (string, error) {
		g, err := group(ctx, peers)
		if err != nil || g.Status.MemberPods == 3 && g.Status.Gateways == (v1alpha1.GatewayCount{Desired: 2, Ready: 2}) {
			return "", err
		}
		return fmt.Sprintf("%+v", g.Status), nil
	}, &v1alpha1.EgressGroupList{})
	for name, want := range map[string]string{payments: "payments subnet routed 3", peers: "peers cgnat routed 3"} {
		line := strings.Fields(kubectl(t, "get", "eg", name, "--no-headers"))
		if got := strings.Join(line[:min(4, len(line))], " "); got != want {
			t.Errorf("kubectl get eg %s begins with %q, want %q", name, got, want)
		}
	}
	if reason, message := awaitTrue(t, payments, v1alpha1.ConditionExitNodeReady); reason == "" || message == "" {
		t.Errorf("ExitNodeReady says nothing: %q %q", reason, message)
	}
	if g, err := group(within(t, time.Minute), payments); err != nil || g.Status.ExitNode == nil || g.Status.ExitNode.ID != s.Rig.Nodes[rig.ExitA].ID {
		t.Errorf("exit node in the status: %+v (%v)", g.Status.ExitNode, err)
	}
	t.Run("privileges", func(t *testing.T) { checkPrivileges(t, podOfN1(t, payments)) })

	// The operator is killed as each thing happens.
	deletePods(t, b...)
	awaitGoing(t, peers, n2)
	deleteOperator(t)
	awaitDevices(t, "tag:egress-peers", 1, 90*time.Second)
	awaitGateways(t, peers, n1)
	deletePods(t, a...)
	awaitDevices(t, "tag:egress-peers", 0, 90*time.Second)
	for _, name := range []string{payments, peers} {
		kubectl(t, "delete", "eg", name, "--wait=false")
		deleteOperator(t)
	}
	for _, name := range []string{payments, peers} {
		await(t, 2*time.Minute, "nothing is left of "+name, leftOf(name), &v1alpha1.EgressGroupList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.NodeList{})
		awaitDevices(t, "tag:egress-"+name, 0, time.Second)
	}
	for _, k := range s.Rig.Tailnet.Keys() {
		if slices.ContainsFunc(k.Tags, func(tag string) bool { return strings.HasPrefix(tag, "tag:egress-") }) && k.Revoked.IsZero() {
			t.Errorf("auth key %s of %q is still good", k.ID, k.Tags)
		}
	}
}

func checkPrivileges(t *testing.T, p corev1.Pod) {
	t.Helper()
	if p.Spec.HostNetwork || p.Spec.HostPID || p.Spec.HostIPC || *p.Spec.AutomountServiceAccountToken || p.Spec.PriorityClassName == "" {
		t.Errorf("the pod has more than it needs: %+v", p.Spec)
	}
	for _, c := range p.Spec.Containers {
		sc := c.SecurityContext
		if sc == nil || sc.Privileged != nil && *sc.Privileged || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation ||
			!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(sc.Capabilities.Add, []corev1.Capability{"NET_ADMIN"}) {
			t.Errorf("container %s: %+v", c.Name, sc)
		}
		if len(c.Resources.Requests) == 0 || len(c.Resources.Limits) == 0 {
			t.Errorf("container %s has no resources: %+v", c.Name, c.Resources)
		}
	}
	if sp := p.Spec.SecurityContext.SeccompProfile; sp == nil || sp.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("seccomp profile of the pod is %v", sp)
	}
}

// TestConfigReconcileNoRestart: what a gateway takes live is applied live, in the same process, by the same node.
func TestConfigReconcileNoRestart(t *testing.T) {
	apply(t, peers)
	startMembers(t, peers, n1, 1)
	awaitGateways(t, peers, n1)
	first, _ := awaitSnapshot(t, peers, n1, "routes are accepted", 30*time.Second, func(sn snapshot.Snapshot) bool {
		return sn.Ready && sn.DeviceID != "" && slices.Contains(sn.Routes, rig.SubnetV4)
	})
	before := podOfN1(t, peers)
	exitA, exitB := nodeOf(rig.ExitA), nodeOf(rig.ExitB)
	through := func(id string) func(snapshot.Snapshot) bool {
		return func(sn snapshot.Snapshot) bool { return sn.Ready && sn.ExitNode.ID == id }
	}
	for _, step := range []struct {
		name, patch string
		good        func(snapshot.Snapshot) bool
	}{
		{"acceptRoutes off", `{"spec":{"acceptRoutes":false}}`, func(sn snapshot.Snapshot) bool { return sn.Ready && !slices.Contains(sn.Routes, rig.SubnetV4) }},
		{"acceptRoutes on", `{"spec":{"acceptRoutes":true}}`, func(sn snapshot.Snapshot) bool { return sn.Ready && slices.Contains(sn.Routes, rig.SubnetV4) }},
		{"exit node by name", `{"spec":{"exitNode":{"nodeID":"` + exitA.Name + "." + domain() + `"}}}`, through(exitA.ID)},
		{"exit node by address", `{"spec":{"exitNode":{"nodeID":"` + exitB.V4.String() + `"}}}`, through(exitB.ID)},
		{"exit node by ID", `{"spec":{"exitNode":{"nodeID":"` + exitA.ID + `"}}}`, through(exitA.ID)},
		{"any exit node", `{"spec":{"exitNode":{"nodeID":"auto:any"}}}`, func(sn snapshot.Snapshot) bool {
			return sn.Ready && sn.ExitNode.ID != "" && sn.ExitNode.Wanted == "auto:any"
		}},
		{"no exit node", `{"spec":{"exitNode":null}}`, func(sn snapshot.Snapshot) bool { return sn.Ready && sn.ExitNode.Wanted == "" }},
	} {
		if s.Org != nil && strings.Contains(step.patch, "auto:any") {
			continue // which exit nodes an organization's control plane suggests is its affair
		}
		kubectl(t, "patch", "eg", peers, "--type=merge", "-p", step.patch)
		_, took := awaitSnapshot(t, peers, n1, step.name, 30*time.Second, step.good)
		t.Logf("%s: applied on the gateway %v after kubectl returned", step.name, took.Round(time.Millisecond))
	}
	last, err := snapshotOf(t, peers, n1)
	if err != nil {
		t.Fatal(err)
	}
	after := podOfN1(t, peers)
	type identity struct {
		UID, DeviceID, NodeKey string
		Restarts               int32
	}
	want := identity{string(before.UID), first.DeviceID, first.NodeKey, 0}
	if diff := cmp.Diff(want, identity{string(after.UID), last.DeviceID, last.NodeKey, after.Status.ContainerStatuses[0].RestartCount}); diff != "" {
		t.Errorf("the gateway is another one (-before +after):\n%s", diff)
	}
}

// TestTagsLive: other tags reach the device that is there.
func TestTagsLive(t *testing.T) {
	hermetic(t, "it looks at the tailnet's devices from inside")
	apply(t, peers)
	startMembers(t, peers, n1, 1)
	awaitGateways(t, peers, n1)
	before := awaitDevices(t, "tag:egress-peers", 1, 30*time.Second)
	uid := podOfN1(t, peers).UID
	kubectl(t, "patch", "eg", peers, "--type=merge", "-p", `{"spec":{"tags":["tag:egress-other"]}}`)
	after := awaitDevices(t, "tag:egress-other", 1, 30*time.Second)
	if before[0].ID != after[0].ID {
		t.Errorf("device %s became %s", before[0].ID, after[0].ID)
	}
	if got := podOfN1(t, peers).UID; got != uid {
		t.Errorf("the pod was replaced")
	}
}

// TestTailnetAway: while the tailnet's API is down a deletion waits, says so, and ends when it is back.
func TestTailnetAway(t *testing.T) {
	hermetic(t, "it has the tailnet's API fail")
	apply(t, peers)
	startMembers(t, peers, n1, 1)
	awaitGateways(t, peers, n1)
	awaitDevices(t, "tag:egress-peers", 1, 30*time.Second)
	awaitKnown(t, peers, n1)
	if err := s.Rig.Tailnet.Fail(tailnet.Fault{Method: http.MethodDelete, Code: http.StatusServiceUnavailable, Message: "out for lunch"}); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "eg", peers, "--wait=false")
	var message string
	await(t, time.Minute, "the group says why it is still there", func(ctx context.Context) (string, error) {
		g, err := group(ctx, peers)
		if err != nil {
			return "", err
		}
		if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			message = c.Message
		}
		if !strings.Contains(message, "out for lunch") {
			return message, nil
		}
		return "", nil
	}, &v1alpha1.EgressGroupList{})
	t.Logf("Ready=False: %s", message)
	s.Rig.Tailnet.ClearFaults()
	await(t, 2*time.Minute, "nothing is left of peers", leftOf(peers), &v1alpha1.EgressGroupList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.NodeList{})
	awaitDevices(t, "tag:egress-peers", 0, time.Second)
}

// TestNodeDeleted: the device of a node that left the cluster goes, once the pods of such a node are given up.
func TestNodeDeleted(t *testing.T) {
	hermetic(t, "it looks at the tailnet's devices from inside")
	apply(t, peers)
	startMembers(t, peers, n1, 1)
	startMembers(t, peers, n2, 1)
	awaitGateways(t, peers, n1, n2)
	awaitDevices(t, "tag:egress-peers", 2, 30*time.Second)
	node, err := s.Node(n2)
	if err != nil {
		t.Fatal(err)
	}
	awaitKnown(t, peers, n1, n2)
	if err := node.Crash(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "node", n2)
	// As Kubernetes does by itself a minute later (its pod garbage collector).
	kubectl(t, "delete", "pods", "--all-namespaces", "--field-selector=spec.nodeName="+n2, "--force", "--grace-period=0")
	deleteOperator(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if err := node.Start(ctx); err != nil {
			t.Error(err)
		}
		if err := s.Cluster.WaitNodes(ctx); err != nil {
			t.Error(err)
		}
		if err := awaitAgents(ctx); err != nil {
			t.Error(err)
		}
	})
	left := awaitDevices(t, "tag:egress-peers", 1, 3*time.Minute)
	if !isDeviceOf(left[0].Name, peers, n1) {
		t.Errorf("the device that is left is %s", left[0].Name)
	}
}
