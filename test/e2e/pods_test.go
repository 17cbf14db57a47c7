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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// testImage has the tools of test/lab/cmd/labtool.
const testImage = "lab.local/test:1"

// member is the label that groups of deploy/examples select.
var member = map[string]string{"tailgate.dev/egress": "true"}

// in puts a pod into a namespace other than default.
func in(namespace string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Namespace = namespace }
}

// startPod makes a pod of the test image on a node; see [awaitPods]. It goes with the test.
func startPod(t *testing.T, name, node string, labels map[string]string, change ...func(*corev1.Pod)) *corev1.Pod {
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
	t.Cleanup(func() { deletePods(t, p) })
	return p
}

// awaitPods waits until pods are ready, and brings what is known of them up to date.
func awaitPods(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	await(t, time.Minute, fmt.Sprintf("%d pods run", len(pods)), func(ctx context.Context) (string, error) {
		for _, p := range pods {
			if err := s.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return "", err
			}
			if !ready(*p) {
				return fmt.Sprintf("%s is %s", p.Name, p.Status.Phase), nil
			}
		}
		return "", nil
	}, &corev1.PodList{})
}

// runPod starts a pod of the test image on a node, and waits until it runs. It goes with the test.
func runPod(t *testing.T, name, node string, labels map[string]string, change ...func(*corev1.Pod)) {
	t.Helper()
	awaitPods(t, startPod(t, name, node, labels, change...))
}

// startMembers starts n members of a group of deploy/examples on a node: of payments in its namespace, of peers in
// default.
func startMembers(t *testing.T, group, node string, n int) []*corev1.Pod {
	t.Helper()
	namespace := "default"
	if group == payments {
		namespace = payments
	}
	var pods []*corev1.Pod
	for i := range n {
		pods = append(pods, startPod(t, fmt.Sprintf("%s-%s-%d", group, node, i), node, member, in(namespace)))
	}
	return pods
}

// deletePods deletes pods at once and waits until they are gone.
func deletePods(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, p := range pods {
		if err := s.Client.Delete(ctx, p); client.IgnoreNotFound(err) != nil {
			t.Errorf("delete pod %s: %v", p.Name, err)
		}
	}
	err := waitFor(ctx, func(ctx context.Context) (string, error) {
		for _, p := range pods {
			if err := s.Client.Get(ctx, client.ObjectKeyFromObject(p), new(corev1.Pod)); !apierrors.IsNotFound(err) {
				return "pod " + p.Name + " is still there", err
			}
		}
		return "", nil
	}, &corev1.PodList{})
	if err != nil {
		t.Error(err)
	}
}

// deletePod deletes a pod at once and waits until it is gone.
func deletePod(t *testing.T, p *corev1.Pod) {
	t.Helper()
	deletePods(t, p)
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
