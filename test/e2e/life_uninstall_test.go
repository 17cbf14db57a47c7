//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// TestUninstall: what deploy/README.md says about it leaves nodes and pods as they were, and pods from before an
// installation become members without a restart. It installs tailgate again.
func TestUninstall(t *testing.T) {
	hermetic(t, "it watches packets in the tailnet's network")
	plain := s.Rig.Nodes[rig.Plain]
	makeGroup(t, peers, peers)
	makeGroup(t, exiting, exiting, func(g *v1alpha1.EgressGroup) {
		g.Spec.ExitNode = &v1alpha1.ExitNode{NodeID: "exit-fra1." + stage.Domain}
	})
	pods := []*lifePod{
		{Pod: startPod(t, "stays-peers", n1, ofPeers)}, {Pod: startPod(t, "stays-exit", n1, ofExiting)}, {Pod: startPod(t, "stays-too", n2, ofExiting)},
	}
	for _, p := range pods {
		p.enter(t)
		reaches(t, p.host, plain.Tail4)
	}
	began := time.Now()
	kubectl(t, "delete", "eg", "--all")
	if out, err := s.Helm(within(t, 2*time.Minute), "uninstall", stage.Release, "--namespace", stage.Namespace, "--wait"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	installed := false
	t.Cleanup(func() {
		if !installed {
			install(t)
		}
	})
	await(t, time.Minute, "no pod of tailgate's is left", func(ctx context.Context) (string, error) {
		left, err := names(ctx, &corev1.PodList{}, inNamespace)
		return strings.Join(left, " "), err
	}, &corev1.PodList{})
	t.Logf("uninstalled in %v", time.Since(began).Round(time.Millisecond))

	conflists, err := s.ReadConflists(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{n1, n2} {
		if got, want := string(conflists[node]), string(s.Conflists[node]); got != want {
			t.Errorf("the network configuration of %s is not as before (-before +after):\n%s", node, lineDiff(want, got))
		}
		root := rootOf(t, node)
		if left := sockets(t, root); len(left) > 0 {
			t.Errorf("sockets on %s: %q", node, left)
		}
		// Keys of devices that are deleted, and the gateways' folders, which are empty; see deploy/README.md.
		left := files(t, root, "run/tailgate", "var/lib/tailgate")
		for _, f := range files(t, root, "opt/cni/bin", "etc/cni/net.d") {
			if strings.Contains(filepath.Base(f), "tailgate") {
				t.Errorf("on %s there is still %s", node, f)
			}
		}
		t.Logf("files left on %s: %q", node, left)
		checkNamespaces(t, node, root)
	}
	if left := s.Rig.Tailnet.NodesByTag(v1alpha1.DefaultTag(peers)); len(left) > 0 {
		t.Errorf("devices left: %v", left)
	}
	runPod(t, "after-free", n1, ofNone)
	runPod(t, "after-member", n2, ofPeers)

	began = time.Now()
	install(t)
	installed = true
	t.Logf("installed again in %v", time.Since(began).Round(time.Millisecond))
	makeGroup(t, peers, peers)
	makeGroup(t, exiting, exiting)
	began = time.Now()
	for _, p := range pods {
		if err := rig.Ping(within(t, time.Minute), p.host, plain.Tail4); err != nil {
			t.Errorf("%s, from before the installation, does not join: %v", p.Name, err)
		}
		if err := s.Client.Get(within(t, time.Minute), client.ObjectKeyFromObject(p.Pod), p.Pod); err != nil || p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("%s: restarts %+v, %v", p.Name, p.Status.ContainerStatuses, err)
		}
	}
	t.Logf("the pods from before joined within %v of their groups", time.Since(began).Round(time.Millisecond))
}

// install installs tailgate again as the stage did.
func install(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	args := []string{"install", stage.Release, s.Chart(), "--namespace", stage.Namespace, "--wait", "--timeout", "2m"}
	if out, err := s.Helm(ctx, append(args, s.HelmValues()...)...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkNamespaces looks for what is tailgate's in the namespaces of a node and of its pods.
func checkNamespaces(t *testing.T, node, root string) {
	t.Helper()
	paths, err := filepath.Glob(root + "/root/run/netns/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, root+"/ns/net") {
		ns, err := netns.Open(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		text := state(t, ns)
		for _, ours := range []string{"ts0", "tg1", "tailscale0", "table inet tailgate", "tailgate:", "7717", "7718", "proto 77", "169.254.64."} {
			for line := range strings.Lines(text) {
				if strings.Contains(line, ours) || strings.HasPrefix(line, "77") {
					t.Errorf("in %s of %s: %s", filepath.Base(path), node, strings.TrimSpace(line))
				}
			}
		}
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(paths) == 0 {
		t.Error(fmt.Errorf("no namespaces on %s", node))
	}
}
