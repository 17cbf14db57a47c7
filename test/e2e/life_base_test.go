//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// The groups of the lifecycle's tests, by the value of lifeLabel that their pods carry: peers only, and an exit node.
const (
	lifeLabel = "tailgate.dev/life"
	exiting   = "other"
)

var (
	ofPeers   = map[string]string{lifeLabel: peers}
	ofExiting = map[string]string{lifeLabel: exiting}
	ofNone    = map[string]string{lifeLabel: ""}
)

// promise is how soon a change is there; the worst of several may take three times as long, for the machine has all
// nodes on it.
const promise = time.Second

// life is what the lifecycle's tests share: members of both groups on both nodes, and a pod on n1 that is none.
type life struct {
	peers, exiting map[string]*lifePod // by node
	free           *lifePod
	leaks          *leaks
	t              *testing.T // whose end is theirs
	idle           []*lifePod // see idlers
}

// lifePod is a pod and its network namespace.
type lifePod struct {
	*corev1.Pod
	host *world.Host
	ns   *netns.Handle
}

// TestLifecycle: what users do to pods, gateways, agents and nodes, and what becomes of the members.
func TestLifecycle(t *testing.T) {
	if s.Org != nil {
		realLife(t)
		return
	}
	l := &life{t: t, peers: map[string]*lifePod{}, exiting: map[string]*lifePod{}}
	l.leaks = watchLeaks(t)
	makeGroup(t, peers, peers)
	makeGroup(t, exiting, exiting, func(g *v1alpha1.EgressGroup) {
		g.Spec.ExitNode = &v1alpha1.ExitNode{NodeID: "exit-fra1." + stage.Domain}
	})
	scaleOperator(t, 0) // who makes gateways
	t.Cleanup(func() { scaleOperator(t, 2) })
	l.startPods(t)
	t.Run("FirstPacketWithoutGateway", l.firstWithoutGateway)
	scaleOperator(t, 2)
	awaitGateways(t, peers, n1, n2)
	awaitGateways(t, exiting, n1, n2)
	for _, p := range l.all() {
		p.enter(t)
	}
	l.awaitJoined(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"FirstPacket", l.firstPackets},
		{"AgentAbsent", l.agentAbsent},
		{"JoinAndLeave", l.joinAndLeave},
		{"Namespace", l.namespace},
		{"Drift", l.drift},
		{"AgentReplaced", l.agentReplaced},
		{"GatewayReplaced", l.gatewayReplaced},
		{"NoLeak", l.noLeak},
		{"NothingLeft", l.nothingLeft},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() { tell(t) })
			test.run(t)
		})
	}
}

// tell shows what the cluster warns of, when the test failed.
func tell(t *testing.T) {
	t.Helper()
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "-A", "--field-selector=status.phase!=Running", "-o", "wide"},
		{"get", "events", "-A", "--field-selector=type=Warning"},
		{"logs", "-n", stage.Namespace, "-l", "app.kubernetes.io/name=tailgate-agent", "--prefix", "--tail=300"},
	} {
		out, err := s.Kubectl(ctx, args...)
		if args[0] == "logs" {
			lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return strings.Contains(line, `"INFO"`) })
			out = strings.Join(lines[max(0, len(lines)-40):], "\n")
		}
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// scaleOperator sets how many operators there are.
func scaleOperator(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	out, err := s.Kubectl(ctx, "scale", "deployment", stage.Release, "-n", stage.Namespace, fmt.Sprintf("--replicas=%d", n))
	if err == nil && n == 0 {
		out, err = s.Kubectl(ctx, "wait", "--for=delete", "pod", "-n", stage.Namespace, "-l", "app.kubernetes.io/name="+stage.Release)
	}
	if err != nil {
		t.Errorf("%v %s", err, out)
	}
}

// startPods makes the pods that live as long as the tests.
func (l *life) startPods(t *testing.T) {
	t.Helper()
	for _, node := range []string{n1, n2} {
		l.peers[node] = &lifePod{Pod: startPod(t, "life-peers-"+node, node, ofPeers)}
		l.exiting[node] = &lifePod{Pod: startPod(t, "life-exit-"+node, node, ofExiting)}
	}
	l.free = &lifePod{Pod: startPod(t, "life-free", n1, ofNone)}
}

func (l *life) all() []*lifePod {
	return []*lifePod{l.peers[n1], l.peers[n2], l.exiting[n1], l.exiting[n2], l.free}
}

// awaitJoined waits until the members have their tailnet.
func (l *life) awaitJoined(t *testing.T) {
	t.Helper()
	for _, node := range []string{n1, n2} {
		reaches(t, l.peers[node].host, s.Rig.Nodes[rig.Plain].Tail4)
		reaches(t, l.exiting[node].host, s.Rig.Internet.V4)
	}
}

// reaches waits until a host has an answer from an address.
func reaches(t *testing.T, h *world.Host, to netip.Addr) {
	t.Helper()
	began := time.Now()
	if err := rig.Ping(within(t, 30*time.Second), h, to); err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	if took := time.Since(began); took > promise {
		t.Logf("%s reaches %v after %v", h.Name, to, took.Round(time.Millisecond))
	}
}

// enter waits until the pod runs, and opens its namespace.
func (p *lifePod) enter(t *testing.T) {
	t.Helper()
	awaitPods(t, p.Pod)
	if err := p.open(t); err != nil {
		t.Fatal(err)
	}
}

// open opens the namespace of a pod that runs, until the end of the test.
func (p *lifePod) open(t *testing.T) error {
	t.Helper()
	ns, err := s.Cluster.PodNetNS(t.Context(), p.Pod)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = ns.Close() })
	p.ns, p.host = ns, s.Rig.World.Adopt(p.Name, ns)
	return nil
}

// entered starts a pod and enters it.
func entered(t *testing.T, name, node string, labels map[string]string, change ...func(*corev1.Pod)) *lifePod {
	t.Helper()
	p := &lifePod{Pod: startPod(t, name, node, labels, change...)}
	p.enter(t)
	return p
}

// openNode opens a node's network namespace.
func openNode(t *testing.T, name string) *netns.Handle {
	t.Helper()
	node, err := s.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := node.NetNS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// openGateway opens the network namespace of the group's gateway on a node.
func openGateway(t *testing.T, group, node string) *netns.Handle {
	t.Helper()
	pods, err := gatewayPods(within(t, time.Minute), group)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := pods[node]
	if !ok {
		t.Fatalf("%s has no gateway on %s", group, node)
	}
	ns, err := s.Cluster.PodNetNS(t.Context(), &p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// makeGroup makes a group of the pods that carry a value of lifeLabel. It goes with the test, and all that was made for it.
func makeGroup(t *testing.T, name, value string, change ...func(*v1alpha1.EgressGroup)) {
	t.Helper()
	g := &v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{Name: name}}
	g.Spec.Selector.PodSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{lifeLabel: v1alpha1.LabelValue(value)}}
	for _, c := range change {
		c(g)
	}
	if err := s.Client.Create(within(t, time.Minute), g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deleteGroup(t, name) })
}

func deleteGroup(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	if out, err := s.Kubectl(ctx, "delete", "eg", name, "--ignore-not-found"); err != nil {
		t.Errorf("delete group %s: %v %s", name, err, out)
	}
}

// relabel sets a pod's lifeLabel, without a word to its object here: labels change often.
func relabel(ctx context.Context, p *corev1.Pod, value string) error {
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, lifeLabel, value))
	return s.Client.Patch(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}, patch)
}

func mustRelabel(t *testing.T, p *lifePod, value string) {
	t.Helper()
	if err := relabel(within(t, time.Minute), p.Pod, value); err != nil {
		t.Fatal(err)
	}
}

// agentPod returns the agent's pod on a node.
func agentPod(ctx context.Context, node string) (*corev1.Pod, error) {
	var list corev1.PodList
	if err := s.Client.List(ctx, &list, inNamespace, client.MatchingLabels{"app.kubernetes.io/name": "tailgate-agent"}); err != nil {
		return nil, err
	}
	for _, p := range list.Items {
		if p.Spec.NodeName == node && p.DeletionTimestamp == nil {
			return &p, nil
		}
	}
	return nil, nil
}

// awaitAgent waits until a node's agent is ready and another than the container of that ID; "": any.
func awaitAgent(t *testing.T, node, old string) (container string) {
	t.Helper()
	await(t, time.Minute, "the agent of "+node+" is ready", func(ctx context.Context) (string, error) {
		p, err := agentPod(ctx, node)
		switch {
		case err != nil:
			return "", err
		case p == nil || !ready(*p):
			return "it is not", nil
		}
		if container = p.Status.ContainerStatuses[0].ContainerID; container == old {
			return "it is the old one", nil
		}
		return "", nil
	}, &corev1.PodList{})
	return container
}

// retry tries until something is so, and returns how long it took.
func retry(t *testing.T, limit time.Duration, what string, try func(context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	if err := rig.Retry(ctx, try); err != nil {
		t.Fatalf("%s: not within %v: %v", what, limit, err)
	}
	return time.Since(began)
}

// errNotYet says that something is to be looked at again.
var errNotYet = errors.New("not yet")
