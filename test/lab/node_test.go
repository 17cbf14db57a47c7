package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// node returns a node's object.
func (c *cluster) node(ctx context.Context, name string) (*corev1.Node, error) {
	return c.cs.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
}

// awaitNotReady waits until the control plane misses a node.
func (c *cluster) awaitNotReady(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	d := eventually(ctx, t, time.Minute, func(ctx context.Context) error {
		n, err := c.node(ctx, name)
		if err != nil {
			return err
		}
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
				return fmt.Errorf("node %s is still Ready", name)
			}
		}
		return nil
	})
	t.Logf("node %s NotReady after %v", name, d.Round(100*time.Millisecond))
}

// containers are the IDs of a pod's, and how often they were restarted.
func containers(p *corev1.Pod) string {
	var all []string
	for _, s := range p.Status.ContainerStatuses {
		all = append(all, fmt.Sprintf("%s %d", s.ContainerID, s.RestartCount))
	}
	return strings.Join(all, ",")
}

// testRestart wants containers to live on when all services are started again.
func (c *cluster) testRestart(t *testing.T) {
	ctx := t.Context()
	before := c.mustWeb(ctx, t, "n1")
	for _, service := range lab.Services() {
		begin := time.Now()
		if err := c.Nodes()[0].Restart(ctx, service); err != nil {
			t.Fatal(err)
		}
		t.Logf("after a restart of %s n1 is Ready in %v", service, time.Since(begin).Round(100*time.Millisecond))
	}
	after := c.awaitWeb(ctx, t, "n1")
	if diff := cmp.Diff(containers(before), containers(after)); diff != "" {
		t.Errorf("a restart of services changed containers (-before +after):\n%s", diff)
	}
	if err := c.Nodes()[0].Restart(ctx, "sshd"); err == nil || !strings.Contains(err.Error(), "use containerd, kubelet or kube-proxy") {
		t.Errorf("restarting a service that nobody has gives %v", err)
	}
}

// testDeleted deletes a node's object: it stays away until the kubelet is restarted, and comes back with the
// networks that it had.
func (c *cluster) testDeleted(t *testing.T) {
	ctx := t.Context()
	before, err := c.node(ctx, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cs.CoreV1().Nodes().Delete(ctx, "n2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := c.Nodes()[1].Restart(ctx, "kubelet"); err != nil {
		t.Fatal(err)
	}
	t.Logf("a deleted node is back %v after", time.Since(begin).Round(100*time.Millisecond))
	after, err := c.node(ctx, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if after.UID == before.UID {
		t.Error("the node was not deleted")
	}
	if diff := cmp.Diff(before.Spec.PodCIDRs, after.Spec.PodCIDRs); diff != "" {
		t.Errorf("the node has other networks (-before +after):\n%s", diff)
	}
	c.awaitWeb(ctx, t, "n2")
}

// testFreeze wants a frozen node's pods to say nothing, and to go on when it is thawed.
func (c *cluster) testFreeze(t *testing.T) {
	ctx := t.Context()
	from, to := c.mustWeb(ctx, t, "n1"), c.mustWeb(ctx, t, "n2")
	n := c.Nodes()[1]
	ask := func() error {
		_, err := in(ctx, c.Lab, from.Name, "tcp", "-timeout=1s", to.Status.PodIP+":9000")
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := n.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil {
		t.Error("a frozen node's pod answers")
	}
	if err := n.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
	if got := containers(c.awaitWeb(ctx, t, "n2")); got != containers(to) {
		t.Errorf("the thawed pod has other containers: %s, before %s", got, containers(to))
	}
}

// testCrash wants a node to come back from a crash with its disk, and with its pods in new containers.
func (c *cluster) testCrash(t *testing.T) {
	ctx := t.Context()
	n := c.Nodes()[1]
	before := c.mustWeb(ctx, t, "n2")
	object, err := c.node(ctx, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Crash(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := n.PID(ctx); err == nil {
		t.Error("the crashed node runs")
	}
	if err := n.Freeze(ctx); err == nil || !strings.Contains(err.Error(), "n2 is down: start it first") {
		t.Errorf("freezing a node that is down gives %v", err)
	}
	if err := n.Crash(ctx); err != nil {
		t.Errorf("a second crash: %v", err)
	}
	begin := time.Now()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("Ready %v after the start", time.Since(begin).Round(100*time.Millisecond))
	if err := n.Start(ctx); err == nil || !strings.Contains(err.Error(), "n2 is up already") {
		t.Errorf("starting a node that is up gives %v", err)
	}
	var after *corev1.Pod
	eventually(ctx, t, time.Minute, func(ctx context.Context) error {
		if after, err = c.web(ctx, "n2"); err == nil && containers(after) == containers(before) {
			err = errors.New("its status is still of before the crash")
		}
		return err
	})
	t.Logf("its pod is ready %v after the start", time.Since(begin).Round(100*time.Millisecond))
	if after.UID != before.UID {
		t.Error("the pod is another, though its object was not deleted")
	}
	again, err := c.node(ctx, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if object.Status.NodeInfo.BootID == again.Status.NodeInfo.BootID {
		t.Error("Kubernetes does not see that the node was rebooted")
	}
	// Of testFolders: on disk, and in memory.
	if _, err := os.Stat(n.Path("var/lib/tailgate")); err != nil {
		t.Errorf("the disk was not kept: %v", err)
	}
}

// testCut takes a node off the network and lets it join again.
func (c *cluster) testCut(t *testing.T) {
	ctx := t.Context()
	n := c.Nodes()[1]
	from, to := c.mustWeb(ctx, t, "n1"), c.mustWeb(ctx, t, "n2")
	if err := n.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := in(ctx, c.Lab, from.Name, "ping", "-n", "1", to.Status.PodIP); err == nil {
		t.Error("a node answers that was cut off")
	}
	c.awaitNotReady(ctx, t, "n2")
	begin := time.Now()
	if err := n.Join(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitNodes(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("Ready %v after it joined again", time.Since(begin).Round(100*time.Millisecond))
	if got := containers(c.awaitWeb(ctx, t, "n2")); got != containers(to) {
		t.Errorf("its pod has other containers: %s, before %s", got, containers(to))
	}
}
