//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
)

var cycles = flag.Int("cycles", 400, "how many joins and leaves there are before it is looked for what they left")

// idlers returns pods of both nodes that do nothing and are no members, made when they are first asked for.
func (l *life) idlers(t *testing.T) []*lifePod {
	t.Helper()
	const atOnce = 10
	for len(l.idle) < 50 {
		var pods []*corev1.Pod
		for i := range atOnce {
			pods = append(pods, startPod(l.t, fmt.Sprintf("idle-%d", len(l.idle)+i), []string{n1, n2}[i%2], ofNone, func(p *corev1.Pod) {
				p.Spec.Containers[0].Args = []string{"sleep"}
			}))
		}
		awaitPods(t, pods...)
		for _, p := range pods {
			x := &lifePod{Pod: p}
			if err := x.open(l.t); err != nil {
				t.Fatal(err)
			}
			l.idle = append(l.idle, x)
		}
	}
	return l.idle
}

// hasLink reports whether a pod has its link, by the cheapest of means.
func hasLink(p *lifePod) bool {
	err := p.ns.Do(func() error {
		_, err := net.InterfaceByName("ts0")
		return err
	})
	return err == nil
}

// nothingLeft: joins and leaves, again and again, by agents that are killed meanwhile, leave nothing.
func (l *life) nothingLeft(t *testing.T) {
	t.Helper()
	pods := l.idlers(t)
	l.cycle(t, pods, len(pods)) // once, so that what stays by right is there
	l.renewAgents(t)
	before := inventory(t, pods)
	began := time.Now()
	done := make(chan struct{})
	killed := make(chan int, 1)
	go func() {
		n, err := l.killAgents(t.Context(), done)
		if err != nil {
			t.Errorf("kill agents: %v", err)
		}
		killed <- n
	}()
	l.cycle(t, pods, *cycles)
	took := time.Since(began)
	close(done)
	t.Logf("%d joins and as many leaves in %v, %.0f a second; agents were killed %d times", *cycles, took.Round(time.Millisecond), float64(2**cycles)/took.Seconds(), <-killed)
	l.renewAgents(t)
	var after map[string]string
	ctx := within(t, 20*time.Second)
	err := rig.Retry(ctx, func(context.Context) error {
		after = inventory(t, pods) //nolint:contextcheck // it has a limit of its own
		if maps.Equal(before, after) {
			return nil
		}
		return errNotYet
	})
	if err == nil {
		return
	}
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if before[what] != after[what] {
			t.Errorf("%s (-before +after):\n%s", what, lineDiff(before[what], after[what]))
		}
	}
}

// cycleLimit is what a join and a leave may take by the mean, while agents are killed and a small machine runs all of the cluster.
const cycleLimit = 500 * time.Millisecond

// cycle has the pods join and leave, n times all together.
func (l *life) cycle(t *testing.T, pods []*lifePod, n int) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	g, ctx := errgroup.WithContext(within(t, time.Minute+time.Duration(n)*cycleLimit))
	for i, p := range pods {
		group := []string{peers, exiting}[i/2%2]
		g.Go(func() error {
			for left.Add(-1) >= 0 {
				for _, value := range []string{group, ""} {
					if err := relabel(ctx, p.Pod, value); err != nil {
						return err
					}
					err := rig.Retry(ctx, func(context.Context) error {
						if hasLink(p) != (value != "") {
							return errNotYet
						}
						return nil
					})
					if err != nil {
						return fmt.Errorf("%s with label %q: %w", p.Name, value, err)
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// killAgents kills the agents of both nodes in turn, and returns how often. The pod goes with the process: one that dies
// again and again is started later and later.
func (l *life) killAgents(ctx context.Context, done <-chan struct{}) (n int, err error) {
	again := time.NewTicker(5 * time.Second)
	defer again.Stop()
	for {
		select {
		case <-done:
			return n, nil
		case <-again.C:
		}
		p, err := agentPod(ctx, []string{n1, n2}[n%2])
		if err != nil {
			return n, err
		}
		if p == nil || !ready(*p) {
			continue
		}
		ns, err := s.Cluster.PodNetNS(ctx, p)
		if err != nil {
			continue // it is just ending
		}
		pid, err := processIn(ns, "tailgate-agent")
		_ = ns.Close()
		if err != nil {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return n, err
		}
		n++
		if err := s.Client.Delete(ctx, p, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
			return n, err
		}
	}
}

// renewAgents replaces the agents, so that what each holds open can be compared.
func (l *life) renewAgents(t *testing.T) {
	t.Helper()
	for _, node := range []string{n1, n2} {
		old := awaitAgent(t, node, "")
		deleteAgent(t, node)
		awaitAgent(t, node, old)
	}
}

// inventory is all that tailgate may have left somewhere, by place.
func inventory(t *testing.T, pods []*lifePod) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, p := range pods {
		all["pod "+p.Name] = state(t, p.ns)
	}
	var lines []string
	for _, d := range s.Rig.Tailnet.Nodes() {
		lines = append(lines, fmt.Sprintf("%s %s %v", d.Name, d.StableID, d.Addresses))
	}
	all["tailnet devices"] = sorted(lines)
	egws, err := names(within(t, time.Minute), &v1alpha1.EgressGatewayList{})
	if err != nil {
		t.Fatal(err)
	}
	all["EgressGateways"] = sorted(egws)
	for _, node := range []string{n1, n2} {
		ns := openNode(t, node)
		all["node "+node] = state(t, ns)
		for _, group := range []string{peers, exiting} {
			all["gateway of "+group+" on "+node] = state(t, openGateway(t, group, node))
		}
		root := rootOf(t, node)
		all["sockets of "+node] = sorted(sockets(t, root))
		all["files of "+node] = sorted(files(t, root, "run/tailgate", "run/netns", "var/lib/tailgate", "var/lib/cni", "opt/cni/bin", "etc/cni/net.d"))
		all["what the agent of "+node+" holds open"] = sorted(held(t, mustProcess(t, ns, "tailgate-agent")))
	}
	return all
}

func sorted(lines []string) string {
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// rootOf is where a node's process 1 has its files.
func rootOf(t *testing.T, node string) string {
	t.Helper()
	n, err := s.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := n.PID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d", pid)
}

// sockets returns the paths of tailgate's unix sockets in a node's network namespace.
func sockets(t *testing.T, root string) (paths []string) {
	t.Helper()
	b, err := os.ReadFile(root + "/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 8 && strings.HasPrefix(f[7], "/run/tailgate/") {
			paths = append(paths, f[7])
		}
	}
	return paths
}

// files returns the names of all that is in folders of a node.
func files(t *testing.T, root string, folders ...string) (paths []string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, "root", folder), func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			paths = append(paths, strings.TrimPrefix(path, root+"/root"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// held counts what a process has open, by kind.
func held(t *testing.T, pid int) (kinds []string) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil {
			continue // it was closed
		}
		if kind, _, ok := strings.Cut(to, ":["); ok { // as in net:[4026531840]
			to = kind
		}
		count[to]++
	}
	for kind, n := range count {
		kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
	}
	return kinds
}
