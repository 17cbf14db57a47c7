//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/test/rig"
)

// returnLimit is how soon after its gateway is back a member's new connections work, also when the gateway's pod, and so its
// address, is another.
const returnLimit = 5 * time.Second

// noLeak: whatever happens to gateways, links, nodes and agents, what members send goes by their gateway or nowhere.
func (l *life) noLeak(t *testing.T) {
	t.Helper()
	l.leaks.proves(t, l.free)
	frozen := l.freeze(t) // takes half a minute, so all else happens meanwhile, on the other node
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"GatewayKilled", l.gatewayKilled},
		{"GatewayDeleted", l.gatewayDeleted},
		{"LinkDeleted", l.linkDeleted},
		{"NodeDrained", l.nodeDrained},
		{"AgentKilled", l.agentKilled},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() { tell(t) })
			test.run(t)
		})
	}
	t.Run("GatewayFrozen", frozen)
}

// outsideStreams pings the internet host from a member in both families until the test ends.
func outsideStreams(t *testing.T, p *lifePod) []*rig.Pinger {
	t.Helper()
	var all []*rig.Pinger
	for _, to := range eachOutside() {
		ping, err := rig.StartPing(t.Context(), p.host, to, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ping.Stop() })
		all = append(all, ping)
	}
	return all
}

// newFlows opens new connections until one is through, in both families, and returns how long it took.
func newFlows(t *testing.T, p *lifePod, what string, to ...netip.Addr) time.Duration {
	t.Helper()
	return timed(func() {
		for _, a := range to {
			retry(t, 30*time.Second, what, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				return rig.Echo(ctx, p.host, "tcp", a)
			})
		}
	})
}

// gatewayKilled: the process dies, and its namespace lives on with the next one.
func (l *life) gatewayKilled(t *testing.T) {
	t.Helper()
	p, ns := l.exiting[n1], openGateway(t, exiting, n1)
	stream, err := rig.StartStream(t.Context(), p.host, s.Rig.Internet.V4, 200_000)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	if err := stream.WaitMoved(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	pings := outsideStreams(t, p)
	link := sh(t, p.ns, "ip -o link show ts0")
	l.leaks.keptIn(t, "gateway killed", func() {
		old := mustProcess(t, ns, "tailgate-gateway")
		if err := unix.Kill(old, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		back := retry(t, 60*time.Second, "the next process runs", func(context.Context) error {
			if pid, err := processIn(ns, "tailgate-gateway"); err != nil || pid == old {
				return errors.Join(errNotYet, err)
			}
			return nil
		})
		took := newFlows(t, p, "new connections", eachOutside()...)
		t.Logf("the next process ran after %v, new connections %v later", back.Round(time.Millisecond), took.Round(time.Millisecond))
		if took > returnLimit {
			t.Errorf("new connections took %v from the gateway's return, want %v", took, returnLimit)
		}
	})
	if err := stream.WaitMoved(within(t, 30*time.Second)); err != nil {
		t.Errorf("the stream did not live on: %v", err)
	}
	t.Logf("stream: %v; pings: %v, %v", stream.Stats(), pings[0].Stats(), pings[1].Stats())
	if st := stream.Stats(); st.Err != nil {
		t.Errorf("the stream ended: %v", st.Err)
	}
	if got := sh(t, p.ns, "ip -o link show ts0"); got != link {
		t.Errorf("the member's link was %s and is %s", link, got)
	}
}

// gatewayDeleted: without its gateway a member of a group is refused at once.
func (l *life) gatewayDeleted(t *testing.T) {
	t.Helper()
	outsideStreams(t, l.exiting[n1])
	for _, x := range []struct {
		group string
		p     *lifePod
		to    []netip.Addr
	}{
		{peers, l.peers[n1], []netip.Addr{s.Rig.Nodes[rig.Plain].Tail4, s.Rig.Nodes[rig.Plain].Tail6}},
		{exiting, l.exiting[n1], eachOutside()},
	} {
		old := gatewayOn(t, x.group, n1)
		l.leaks.keptIn(t, "gateway of "+x.group+" deleted", func() {
			if err := s.Client.Delete(within(t, time.Minute), old); err != nil {
				t.Fatal(err)
			}
			gone := awaitNS(t, x.p.ns, 30*time.Second, "the link goes", func() error {
				if out, err := shell(t.Context(), x.p.ns, "ip link show ts0"); err == nil {
					return fmt.Errorf("it is there: %s", out)
				}
				return nil
			})
			for _, a := range x.to {
				refused(t, x.p, a)
			}
			awaitOtherGateway(t, x.group, n1, old.UID)
			took := newFlows(t, x.p, "new connections", x.to...)
			t.Logf("%s: the link went after %v; new connections %v after the gateway was ready", x.group, gone.Round(time.Millisecond), took.Round(time.Millisecond))
			if took > returnLimit {
				t.Errorf("new connections took %v from the gateway's return, want %v", took, returnLimit)
			}
		})
	}
}

// refused checks that a connection fails at once, as long as there is no link.
func refused(t *testing.T, p *lifePod, to netip.Addr) {
	t.Helper()
	began := time.Now()
	err := rig.Echo(within(t, 5*time.Second), p.host, "tcp", to)
	took := time.Since(began)
	switch {
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		if took > promise/2 {
			t.Errorf("%s was refused %v only after %v", p.Name, to, took)
		}
		t.Logf("%s was refused %v after %v: %v", p.Name, to, took.Round(time.Microsecond), err)
	case sh(t, p.ns, "ip -o link") != "" && err == nil:
		t.Logf("%s had a gateway again before it could be refused", p.Name)
	default:
		t.Errorf("%s to %v: %v after %v, want no route to host", p.Name, to, err, took)
	}
}

// linkDeleted: somebody in the pod deletes the link.
func (l *life) linkDeleted(t *testing.T) {
	t.Helper()
	p := l.exiting[n1]
	reaches(t, p.host, outside())
	pings := outsideStreams(t, p)
	l.leaks.keptIn(t, "link deleted", func() {
		var healed times
		for range 3 {
			healed = append(healed, timed(func() {
				sh(t, p.ns, "ip link del ts0")
				for _, ping := range pings {
					if err := ping.WaitAnswer(within(t, 10*time.Second)); err != nil {
						t.Error(err)
					}
				}
			}))
		}
		healed.check(t, "from the link's deletion to an answer")
	})
}

// nodeDrained: pods that are evicted send until they end.
func (l *life) nodeDrained(t *testing.T) {
	t.Helper()
	sending := func(to netip.Addr) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Labels["drained"] = "yes"
			p.Spec.TerminationGracePeriodSeconds = new(int64(2))
			p.Spec.Containers[0].Args = []string{"ping", "-n", "1000000", "-every", "20ms", to.String()}
		}
	}
	l.leaks.keptIn(t, "node drained", func() {
		var pods []*corev1.Pod
		for i, to := range eachOutside() {
			pods = append(pods, startPod(t, fmt.Sprintf("drained-exit-%d", i), n2, map[string]string{lifeLabel: exiting}, sending(to)))
		}
		pods = append(pods, startPod(t, "drained-peers", n2, map[string]string{lifeLabel: peers}, sending(s.Rig.Nodes[rig.Plain].Tail4)))
		awaitPods(t, pods...)
		defer kubectl(t, "uncordon", n2)
		kubectl(t, "drain", n2, "--ignore-daemonsets", "--force", "--pod-selector=drained=yes", "--timeout=50s")
	})
}

// agentKilled: the agents die in the middle of fifty joins. Who is joined stays so, and the next agents join the rest.
func (l *life) agentKilled(t *testing.T) {
	t.Helper()
	pods := l.idlers(t)
	all := make([]*corev1.Pod, len(pods))
	for i, p := range pods {
		all[i] = p.Pod
	}
	spray, stop := context.WithCancel(t.Context())
	var sprays errgroup.Group
	defer func() { stop(); _ = sprays.Wait() }()
	for _, p := range pods {
		sprays.Go(func() error {
			_ = rig.Spray(spray, p.host, netip.AddrPortFrom(outside(), 9), "", 1<<20, 50*time.Millisecond) // refused, as may be
			return nil
		})
	}
	retry(t, 10*time.Second, "each sends as itself", func(context.Context) error {
		for _, p := range all {
			if n, _ := l.leaks.of(t, p); n == 0 { //nolint:contextcheck // it has a limit of its own
				return errNotYet
			}
		}
		return nil
	})
	agents, containers := map[string]int{}, map[string]string{}
	for _, node := range []string{n1, n2} {
		containers[node] = awaitAgent(t, node, "")
		agents[node] = mustProcess(t, openNode(t, node), "tailgate-agent")
	}
	g, ctx := errgroup.WithContext(within(t, time.Minute))
	for _, p := range pods {
		g.Go(func() error { return relabel(ctx, p.Pod, exiting) })
	}
	joined := func() (in []*corev1.Pod) {
		for _, p := range pods {
			if hasLink(p) {
				in = append(in, p.Pod)
			}
		}
		return in
	}
	retry(t, 30*time.Second, "some joined", func(context.Context) error {
		if len(joined()) < 10 {
			return errNotYet
		}
		return nil
	})
	for _, pid := range agents {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	early := joined()
	before, _ := l.leaks.of(t, early...)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for node, old := range containers {
		awaitAgent(t, node, old)
	}
	took := retry(t, 30*time.Second, "all joined", func(context.Context) error {
		if have := len(joined()); have < len(pods) {
			return fmt.Errorf("%d of %d are", have, len(pods))
		}
		return nil
	})
	t.Logf("%d of %d had joined when the agents were killed; all had %v after the next were ready", len(early), len(pods), took.Round(time.Millisecond))
	if after, _ := l.leaks.of(t, early...); after != before {
		t.Errorf("those that had joined sent %d packets by another way after the agents were killed", after-before)
	}
	l.leaks.keptIn(t, "after the agents were killed", func() {
		for _, p := range pods {
			reaches(t, p.host, outside())
		}
	})
	stop()
	for _, p := range pods {
		mustRelabel(t, p, "")
	}
}

// freeze stops the process of the exit group's gateway on n2, and returns the test of what follows: the kubelet ends it, as it
// does not answer, and starts the next.
func (l *life) freeze(t *testing.T) func(*testing.T) {
	t.Helper()
	p, ns := l.exiting[n2], openGateway(t, exiting, n2)
	pings := outsideStreams(t, p)
	for _, ping := range pings {
		if err := ping.WaitAnswer(within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	old := mustProcess(t, ns, "tailgate-gateway")
	if err := unix.Kill(old, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// It may take until long after the other tests, so when the next one is there is noted as it happens.
	type back struct {
		at, flows time.Duration
		err       error
	}
	done := make(chan back, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var b back
		b.err = rig.Retry(ctx, func(context.Context) error {
			if pid, err := processIn(ns, "tailgate-gateway"); err != nil || pid == old {
				return errors.Join(errNotYet, err)
			}
			return nil
		})
		b.at = time.Since(began)
		for _, a := range eachOutside() {
			if b.err == nil {
				b.err = rig.Retry(ctx, func(ctx context.Context) error {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					return rig.Echo(ctx, p.host, "tcp", a)
				})
			}
		}
		b.flows = time.Since(began) - b.at
		done <- b
	}()
	return func(t *testing.T) {
		t.Helper()
		l.leaks.keptIn(t, "gateway frozen", func() {
			b := <-done
			t.Logf("the next process ran after %v, new connections %v later; pings: %v, %v", b.at.Round(100*time.Millisecond), b.flows.Round(time.Millisecond), pings[0].Stats(), pings[1].Stats())
			if b.err != nil || b.flows > returnLimit {
				t.Errorf("new connections took %v from the gateway's return, want %v: %v", b.flows, returnLimit, b.err)
			}
		})
	}
}
