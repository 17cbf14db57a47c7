//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/rig"
)

// testImage has the tools of test/lab/cmd/labtool.
const testImage = "lab.local/test:1"

// member is the label that groups of deploy/examples select.
var member = map[string]string{"tailgate.dev/egress": "true"}

// runPod starts a pod of the test image on a node, and waits until it runs. It goes with the test.
func runPod(t *testing.T, name, node string, labels map[string]string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name: "test", Image: testImage, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"},
			}},
		},
	}
	for _, c := range change {
		c(p)
	}
	if err := s.Client.Create(within(t, time.Minute), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deletePod(t, p) })
	await(t, time.Minute, "pod "+name+" runs", func(ctx context.Context) (string, error) {
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(p), p)
		if err != nil || ready(*p) {
			return "", err
		}
		return string(p.Status.Phase), nil
	}, &corev1.PodList{})
	return p
}

// deletePod deletes a pod at once and waits until it is gone.
func deletePod(t *testing.T, p *corev1.Pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if out, err := s.Kubectl(ctx, "delete", "pod", "-n", p.Namespace, p.Name, "--ignore-not-found", "--wait"); err != nil {
		t.Errorf("delete pod %s: %v %s", p.Name, err, out)
	}
}

// inPod runs a tool in a pod, and returns what it prints.
func inPod(t *testing.T, p *corev1.Pod, tool ...string) (string, error) {
	t.Helper()
	out, err := s.Kubectl(within(t, time.Minute), append([]string{"exec", "-n", p.Namespace, p.Name, "--"}, tool...)...)
	return strings.TrimSpace(out), err
}

// mustIn is [inPod] for what must succeed.
func mustIn(t *testing.T, p *corev1.Pod, tool ...string) string {
	t.Helper()
	out, err := inPod(t, p, tool...)
	if err != nil {
		t.Fatalf("in pod %s, %s: %v", p.Name, strings.Join(tool, " "), err)
	}
	return out
}

// whoAmI asks a web server of package peer whom it saw, and by which of its hosts it was reached.
func whoAmI(t *testing.T, p *corev1.Pod, server netip.Addr) (from netip.Addr, via string, err error) {
	t.Helper()
	out, err := inPod(t, p, "get", "-timeout", "5s", fmt.Sprintf("http://%s/", netip.AddrPortFrom(server, 80)))
	if err != nil {
		return from, "", err
	}
	var addr string
	if _, err := fmt.Sscanf(out, "from=%s via=%s", &addr, &via); err != nil {
		return from, "", fmt.Errorf("%q: %w", out, err)
	}
	ap, err := netip.ParseAddrPort(addr)
	return ap.Addr(), via, err
}

// TestMembers: a pod that a group selects reaches a peer as the group's device, both ways of becoming one: at its start, and
// live.
func TestMembers(t *testing.T) {
	apply(t, peers)
	live := runPod(t, "live", n2, nil)
	first := runPod(t, "first", n1, member)
	awaitGateways(t, peers, n1)
	label(t, live, member)
	awaitGateways(t, peers, n1, n2)
	devices := awaitDevices(t, "tag:egress-peers", 2, time.Minute)
	peer := s.Rig.Nodes[rig.Plain]
	for _, p := range []*corev1.Pod{first, live} {
		for _, dst := range []netip.Addr{peer.Tail4, peer.Tail6} {
			from, via, err := whoAmI(t, p, dst)
			t.Logf("%s to %v: seen as %v by %s (%v)", p.Name, dst, from, via, err)
		}
	}
	t.Logf("devices %+v", devices)
}

// label sets labels of a pod.
func label(t *testing.T, p *corev1.Pod, labels map[string]string) {
	t.Helper()
	before := p.DeepCopy()
	for k, v := range labels {
		metav1.SetMetaDataLabel(&p.ObjectMeta, k, v)
	}
	if err := s.Client.Patch(within(t, time.Minute), p, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
