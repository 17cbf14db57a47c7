//go:build e2e && linux

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

var bursts = flag.Int("bursts", 60, "how many pods are started in bursts for the sake of their first packet")

// inboxPort is where pods send their first packet.
const inboxPort = 7777

// inbox answers datagrams, and remembers who sent which text.
type inbox struct {
	mu   sync.Mutex
	from map[string]netip.Addr
}

// open listens on an address of a host's.
func (b *inbox) open(t *testing.T, h *world.Host, at netip.Addr) {
	t.Helper()
	pc, err := h.ListenPacket("udp", netip.AddrPortFrom(at, inboxPort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			text := strings.TrimSpace(string(buf[:n]))
			if ap, err := netip.ParseAddrPort(from.String()); err == nil {
				b.mu.Lock()
				b.from[text] = ap.Addr().Unmap()
				b.mu.Unlock()
			}
			_, _ = pc.WriteTo(buf[:n], from) // whether it comes back the pod says
		}
	}()
}

func (b *inbox) sender(text string) (netip.Addr, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.from[text]
	return a, ok
}

func openInbox(t *testing.T) *inbox {
	t.Helper()
	b := &inbox{from: map[string]netip.Addr{}}
	plain := s.Rig.Nodes[rig.Plain]
	for _, a := range []netip.Addr{plain.Tail4, plain.Tail6} {
		b.open(t, plain.Host, a)
	}
	for _, a := range eachOutside() {
		b.open(t, s.Rig.Internet, a)
	}
	return b
}

// shot is a pod whose first act is one datagram.
type shot struct {
	name, node, group string
	to                netip.Addr
	port              uint16
	// failed is why the container ended otherwise than with an answer; "": it got one.
	failed string
}

// shots returns n of them, over nodes and families in turn.
func shots(prefix, group string, n int, to ...netip.Addr) []*shot {
	var all []*shot
	for i := range n {
		all = append(all, &shot{name: prefix + strconv.Itoa(i), node: []string{n1, n2}[i%2], group: group, to: to[i/2%len(to)], port: inboxPort})
	}
	return all
}

// fire starts the pods at once, waits until each has ended, and removes them.
func fire(t *testing.T, all []*shot) {
	t.Helper()
	ctx, burst := within(t, 3*time.Minute), "burst-"+all[0].name
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	var ended map[string]string
	var created time.Duration
	g.Go(func() (err error) {
		ended, err = endings(ctx, burst, len(all))
		return err
	})
	g.Go(func() error {
		creating, ctx := errgroup.WithContext(ctx)
		creating.SetLimit(20)
		for _, x := range all {
			creating.Go(func() error { return s.Client.Create(ctx, x.pod(burst)) })
		}
		err := creating.Wait()
		created = time.Since(began)
		return err
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		x.failed = ended[x.name]
	}
	t.Logf("%d pods created in %v, all ended after %v", len(all), created.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	err := s.Client.DeleteAllOf(within(t, time.Minute), &corev1.Pod{}, client.InNamespace("default"), client.MatchingLabels{"burst": burst}, client.GracePeriodSeconds(0))
	if err != nil {
		t.Fatal(err)
	}
}

// endings waits until n pods of a burst have ended, and returns why, by their names.
func endings(ctx context.Context, burst string, n int) (map[string]string, error) {
	ended := map[string]string{}
	which := []client.ListOption{client.InNamespace("default"), client.MatchingLabels{"burst": burst}}
	// The API server may end a watch at any time, as when it has much to do.
	for len(ended) < n {
		w, err := s.Client.Watch(ctx, &corev1.PodList{}, which...)
		if err != nil {
			return nil, fmt.Errorf("watch the pods of %s: %w", burst, err)
		}
		for e := range w.ResultChan() { // it begins with what is there
			if p, ok := e.Object.(*corev1.Pod); ok && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed) {
				ended[p.Name] = whyEnded(p)
			}
			if len(ended) == n {
				break
			}
		}
		w.Stop()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%d of the %d pods of %s have ended: %w", len(ended), n, burst, err)
		}
	}
	return ended, nil
}

func (x *shot) pod(burst string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: x.name, Namespace: "default", Labels: map[string]string{lifeLabel: x.group, "burst": burst}},
		Spec: corev1.PodSpec{
			NodeName: x.node, RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64),
			AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{
				Name: "first", Image: testImage, ImagePullPolicy: corev1.PullNever,
				Args:                     []string{"udp", "-timeout", "3s", netip.AddrPortFrom(x.to, x.port).String(), x.name},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
		},
	}
}

func whyEnded(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodSucceeded {
		return ""
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated != nil {
			return strings.TrimSpace(c.State.Terminated.Message)
		}
	}
	return p.Status.Message
}

// wantFrom returns the address that the datagram is to come from: its group's device on its node, or the exit node.
func (x *shot) wantFrom(t *testing.T) []netip.Addr {
	t.Helper()
	if x.group == exiting {
		exit := s.Rig.Nodes[rig.ExitA]
		return []netip.Addr{exit.V4, exit.V6}
	}
	return deviceOf(t, x.group, x.node)
}

// deviceOf returns the tailnet addresses of a group's device on a node.
func deviceOf(t *testing.T, group, node string) []netip.Addr {
	t.Helper()
	for _, d := range s.Rig.Tailnet.NodesByTag(v1alpha1.DefaultTag(group)) {
		if isDeviceOf(d.Name, group, node) {
			return d.Addresses
		}
	}
	t.Fatalf("%s has no device on %s", group, node)
	return nil
}

// firstWithoutGateway: pods that start before their group has a gateway on their node are kept in, and refused at once.
func (l *life) firstWithoutGateway(t *testing.T) {
	t.Helper()
	b, plain := openInbox(t), s.Rig.Nodes[rig.Plain]
	all := slices.Concat(shots("early-peers-", peers, 12, plain.Tail4, plain.Tail6), shots("early-exit-", exiting, 12, eachOutside()...))
	l.leaks.keptIn(t, "first packets without a gateway", func() { fire(t, all) })
	refused := 0
	for _, x := range all {
		from, arrived := b.sender(x.name)
		switch {
		case arrived:
			t.Errorf("%s on %s to %v arrived from %v, and there is no gateway", x.name, x.node, x.to, from)
		case !strings.Contains(x.failed, "no route to host"):
			t.Errorf("%s on %s to %v was not refused at once: %q", x.name, x.node, x.to, x.failed)
		default:
			refused++
		}
	}
	t.Logf("%d of %d first packets were refused at once, and none left", refused, len(all))
}

// firstPackets: with a gateway there, the first packet of each pod arrives, as its group's.
func (l *life) firstPackets(t *testing.T) {
	t.Helper()
	l.leaks.proves(t, l.free)
	b, plain := openInbox(t), s.Rig.Nodes[rig.Plain]
	third := *bursts / 3
	for i, all := range [][]*shot{
		shots("first-a-", peers, third, plain.Tail4, plain.Tail6),
		shots("first-b-", exiting, third, eachOutside()...),
		slices.Concat(shots("first-c-", peers, third/2, plain.Tail4, plain.Tail6), shots("first-d-", exiting, third/2, eachOutside()...)),
	} {
		l.leaks.keptIn(t, fmt.Sprintf("first packets, burst %d", i+1), func() { fire(t, all) })
		lost := 0
		for _, x := range all {
			from, arrived := b.sender(x.name)
			switch {
			case !arrived || x.failed != "":
				lost++
				t.Errorf("%s on %s to %v: arrived: %v, and the pod said %q", x.name, x.node, x.to, arrived, x.failed)
			case !slices.Contains(x.wantFrom(t), from):
				t.Errorf("%s on %s to %v arrived from %v", x.name, x.node, x.to, from)
			}
		}
		t.Logf("burst %d: %d of %d first packets arrived", i+1, len(all)-lost, len(all))
	}
}

// agentAbsent: without an agent pods start as ever; from the moment it is back, nothing goes the wrong way.
func (l *life) agentAbsent(t *testing.T) {
	t.Helper()
	began := time.Now()
	runPod(t, "absent-before", n2, ofNone)
	normal := time.Since(began)
	setAgentNodes(t, `{"kubernetes.io/hostname":"`+n1+`"}`)
	back := false
	defer func() {
		if !back {
			setAgentNodes(t, `{"kubernetes.io/hostname":null}`)
		}
	}()
	await(t, time.Minute, "no agent on n2", func(ctx context.Context) (string, error) {
		var list corev1.PodList
		err := s.Client.List(ctx, &list, inNamespace, client.MatchingLabels{"app.kubernetes.io/name": "tailgate-agent"})
		for _, p := range list.Items {
			if p.Spec.NodeName == n2 {
				return "it is still there", err
			}
		}
		return "", err
	}, &corev1.PodList{})
	awaitAgent(t, n1, "")
	// Until a moment ago there was an agent, for whose return members would wait, and nobody knows yet who is one. Now it was
	// a while ago.
	before := time.Now().Add(-2 * cnirpc.Recent)
	if err := os.Chtimes(rootOf(t, n2)+"/root"+cnirpc.Socket, before, before); err != nil {
		t.Fatal(err)
	}
	started := map[string]*lifePod{}
	for name, labels := range map[string]map[string]string{"absent-free": ofNone, "absent-peers": ofPeers, "absent-exit": ofExiting} {
		began := time.Now()
		started[name] = entered(t, name, n2, labels)
		took := time.Since(began)
		t.Logf("%s started in %v; a pod with the agent there in %v", name, took.Round(time.Millisecond), normal.Round(time.Millisecond))
		if took > normal+2*time.Second {
			t.Errorf("%s started in %v, with the agent there in %v", name, took, normal)
		}
	}
	exit := started["absent-exit"]
	p, err := rig.StartPing(t.Context(), exit.host, outside(), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.WaitAnswer(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	setAgentNodes(t, `{"kubernetes.io/hostname":null}`)
	back = true
	awaitAgent(t, n2, "")
	atReady, _ := l.leaks.of(t, exit.Pod)
	reaches(t, exit.host, outside())
	reaches(t, started["absent-peers"].host, s.Rig.Nodes[rig.Plain].Tail4)
	n, last := l.leaks.of(t, exit.Pod)
	if n == 0 {
		t.Error("the pod sent nothing while there was no agent, so this proves nothing")
	}
	if n != atReady {
		t.Errorf("%d packets went the wrong way after the agent was ready", n-atReady)
	}
	agent, err := agentPod(within(t, time.Minute), n2)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the last packet that went the wrong way did so %v after the agent's container started (to the second)",
		last.Sub(agent.Status.ContainerStatuses[0].State.Running.StartedAt.Time).Round(100*time.Millisecond))
	awaitAgent(t, n1, "")
}

// setAgentNodes merges into the node selector of the agents' DaemonSet.
func setAgentNodes(t *testing.T, selector string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"nodeSelector":%s}}}}`, selector)
	if _, err := s.Kubectl(context.WithoutCancel(t.Context()), "patch", "ds", "tailgate-agent", "-n", stage.Namespace,
		"--type=merge", "-p", string(patch)); err != nil {
		t.Error(err)
	}
}
