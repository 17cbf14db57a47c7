//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/lab"
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

// sh runs a shell command in a network namespace, and returns what it prints.
func sh(t *testing.T, ns *netns.Handle, command string) string {
	t.Helper()
	out, err := shell(t.Context(), ns, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func shell(ctx context.Context, ns *netns.Handle, command string) (string, error) {
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = exec.CommandContext(ctx, "sh", "-ec", command).CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return string(out), nil
}

// stateOf is all of a namespace that anybody configures: links, addresses, neighbours that do not age, rules, routes
// and nftables, without what counts, numbers that the kernel gives, and the slot of a member's link, which may be another when the
// link was made anew.
const stateOf = `{ ip -o link; ip -br addr; ip neigh show nud permanent; ip rule; ip -6 rule; ip route show table all
ip -6 route show table all | sed '/proto ra/d'; nft -s list ruleset; } | sed 's/^[0-9]*: //; s/ qdisc [^ ]*//; s/@if[0-9]*//; s/ link-netnsid [0-9]*//; s/  */ /g
s/02:74:67:01:[0-9a-f:]*/MAC/; s/169\.254\.64\.[0-9]*/MEMBER/g; s/fd2c:7d4a:91e6:7717::[0-9a-f]*/MEMBER/g; s/fe80::74:67ff:fe01:[0-9a-f]*/MEMBER/g; s/\<tg[0-9][0-9]*\>/tgN/g' | sort`

// state returns the configuration of a namespace as text, once the kernel has made sure that nobody else has its addresses
// (RFC 4862, section 5.4), a second or two after the links are up: until then it has no routes for them.
func state(t *testing.T, ns *netns.Handle) string {
	t.Helper()
	awaitNS(t, ns, 10*time.Second, "addresses in use", func() error {
		if tentative := sh(t, ns, "ip -6 -o addr show tentative"); tentative != "" {
			return fmt.Errorf("these are not yet: %s", tentative)
		}
		return nil
	})
	return sh(t, ns, stateOf)
}

// awaitNS waits until what is true of a namespace, looks again at each change of it, and returns how long it took.
func awaitNS(t *testing.T, ns *netns.Handle, limit time.Duration, what string, cond func() error) time.Duration {
	t.Helper()
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	changed, err := k.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err := cond()
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}

// hasState says whether a namespace has a state.
func hasState(t *testing.T, ns *netns.Handle, want string) func() error {
	t.Helper()
	return func() error {
		if got := sh(t, ns, stateOf); got != want {
			return fmt.Errorf("state (-want +got):\n%s", lineDiff(want, got))
		}
		return nil
	}
}

// lineDiff returns the lines of two texts that are in one of them only.
func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "-"+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+"+line)
		}
	}
	return strings.Join(out, "\n")
}

// processIn returns the process that runs a program in a network namespace.
func processIn(ns *netns.Handle, program string) (int, error) {
	id, err := ns.ID()
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || filepath.Base(exe) != program {
			continue
		}
		link, err := os.Readlink(dir + "/ns/net")
		var pid int
		if _, serr := fmt.Sscanf(dir, "/proc/%d", &pid); err == nil && serr == nil && link == fmt.Sprintf("net:[%d]", id.Ino) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no %s runs there", program)
}

// mustProcess is [processIn] for one that has to be there.
func mustProcess(t *testing.T, ns *netns.Handle, program string) int {
	t.Helper()
	pid, err := processIn(ns, program)
	if err != nil {
		t.Fatal(err)
	}
	return pid
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

// outside returns the internet host's address of a family that pods have without tailgate.
func outside() netip.Addr {
	if lab.Family(*family) == lab.V6 {
		return s.Rig.Internet.V6
	}
	return s.Rig.Internet.V4
}

// eachOutside returns the internet host's addresses: members with an exit node have both families in every cluster.
func eachOutside() []netip.Addr { return []netip.Addr{s.Rig.Internet.V4, s.Rig.Internet.V6} }

// leaks knows who else than an exit node has spoken to the internet host, and what was sent to tailnet addresses
// through a node.
type leaks struct {
	capture *rig.Capture
	nodes   []*netns.Handle

	mu   sync.Mutex
	seen map[netip.Addr]int
	last map[netip.Addr]time.Time
}

// watchLeaks begins to watch.
func watchLeaks(t *testing.T) *leaks {
	t.Helper()
	w := &leaks{seen: map[netip.Addr]int{}, last: map[netip.Addr]time.Time{}}
	var others []netip.Addr // the exit nodes, and who sends what proves that the capture works
	for _, role := range []rig.Role{rig.ExitA, rig.ExitB, rig.Plain} {
		others = append(others, s.Rig.Nodes[role].V4, s.Rig.Nodes[role].V6)
	}
	own := eachOutside()
	var err error
	w.capture, err = rig.StartCapture(s.Rig.Internet, "eth0", func(p rig.Packet) bool {
		if p.Out || !slices.Contains(own, p.Dst) || slices.Contains(others, p.Src) {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen[p.Src]++
		w.last[p.Src] = time.Now()
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.capture.Stop)
	for _, node := range []string{n1, n2} {
		ns := openNode(t, node)
		sh(t, ns, `nft 'table inet e2e {
			set v4 { type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }; set v6 { type ipv6_addr . ipv6_addr; flags dynamic; size 4096; counter; }
			chain prerouting { type filter hook prerouting priority raw;
				ip daddr 100.64.0.0/10 update @v4 { ip saddr . ip daddr }; ip6 daddr fd7a:115c:a1e0::/48 update @v6 { ip6 saddr . ip6 daddr }; }; }'`)
		w.nodes = append(w.nodes, ns)
	}
	t.Cleanup(func() {
		for _, ns := range w.nodes {
			if out, err := shell(context.WithoutCancel(t.Context()), ns, "nft delete table inet e2e"); err != nil {
				t.Error(err, out)
			}
		}
	})
	return w
}

// toTailnet counts the packets to tailnet addresses that came to nodes, which only pods without a tailnet send, by source
// and destination.
func (w *leaks) toTailnet(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, ns := range w.nodes {
		for element := range strings.FieldsFuncSeq(sh(t, ns, "nft list table inet e2e"), func(r rune) bool { return strings.ContainsRune("{},\n", r) }) {
			way, counted, ok := strings.Cut(strings.TrimSpace(element), " counter packets ")
			var packets int
			if _, err := fmt.Sscan(counted, &packets); ok && err == nil {
				all[strings.Replace(way, " . ", " to ", 1)] += packets
			}
		}
	}
	return all
}

// toInternet counts the packets that others than exit nodes sent to the internet host, by source.
func (w *leaks) toInternet(t *testing.T) map[string]int {
	t.Helper()
	w.of(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for a, n := range w.seen {
		all[a.String()+" to the internet"] = n
	}
	return all
}

// of counts the packets that pods sent to the internet host as themselves, after all that is under way is there.
func (w *leaks) of(t *testing.T, pods ...*corev1.Pod) (n int, last time.Time) {
	t.Helper()
	if err := w.capture.SyncFrom(within(t, 10*time.Second), s.Rig.Nodes[rig.Plain].Host, s.Rig.Internet.V4); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pods {
		for _, ip := range p.Status.PodIPs {
			a := netip.MustParseAddr(ip.IP)
			n += w.seen[a]
			if w.last[a].After(last) {
				last = w.last[a]
			}
		}
	}
	return n, last
}

// more returns what was counted since before.
func more(before, after map[string]int) []string {
	var grown []string
	for way, n := range after {
		if n > before[way] {
			grown = append(grown, fmt.Sprintf("%d from %s", n-before[way], way))
		}
	}
	slices.Sort(grown)
	return grown
}

// proves checks that what a pod without a tailnet sends is seen.
func (w *leaks) proves(t *testing.T, p *lifePod) {
	t.Helper()
	internet, tailnet := w.toInternet(t), w.toTailnet(t)
	if err := rig.Ping(within(t, 10*time.Second), p.host, outside()); err != nil {
		t.Fatal(err)
	}
	to := s.Rig.Nodes[rig.Plain].Tail4
	if lab.Family(*family) == lab.V6 {
		to = s.Rig.Nodes[rig.Plain].Tail6
	}
	if err := rig.SprayPings(t.Context(), p.host, to, 3, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if len(more(internet, w.toInternet(t))) == 0 || len(more(tailnet, w.toTailnet(t))) == 0 {
		t.Fatalf("what leaves in the open is not seen: %v, %v", w.toInternet(t), w.toTailnet(t))
	}
}

// keptIn checks that nothing leaves in another way than by the gateways while do runs.
func (w *leaks) keptIn(t *testing.T, what string, do func()) {
	t.Helper()
	internet, tailnet := w.toInternet(t), w.toTailnet(t)
	do()
	if left := append(more(internet, w.toInternet(t)), more(tailnet, w.toTailnet(t))...); len(left) > 0 {
		t.Errorf("%s: packets left by another way than the gateway: %s", what, strings.Join(left, "; "))
	}
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
