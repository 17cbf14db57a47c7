//go:build linux

package stage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// TestUpstream: only the upstream of kubeadm's Corefile is another.
func TestUpstream(t *testing.T) {
	const corefile = `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
}
`
	got := forward.ReplaceAllString(corefile, "${1}10.99.0.1 ")
	want := strings.Replace(corefile, "/etc/resolv.conf {", "10.99.0.1 {", 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Corefile (-want +got):\n%s", diff)
	}
}

// TestInPod: a process of a pod is known by its control group, as either driver of the kubelet writes it, and in either version.
func TestInPod(t *testing.T) {
	const uid = "49b7bde0-4c61-4af6-bb68-8a90f98381d4"
	for text, want := range map[string]bool{
		"0::/docker/2f1c/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod49b7bde0_4c61_4af6_bb68_8a90f98381d4.slice/cri-containerd-1.scope\n": true,
		"5:memory:/libpod-9/kubelet/kubepods/besteffort/pod49b7bde0-4c61-4af6-bb68-8a90f98381d4/1\n0::/\n":                                                                                          true,
		"0::/user.slice\n": false,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := inPod(dir, uid); got != want {
			t.Errorf("that a process of %q is in the pod is %t", text, got)
		}
	}
	if inPod(t.TempDir(), uid) {
		t.Error("a process that has ended is in the pod")
	}
	if ns, err := podNetNS(uid); err == nil {
		t.Errorf("a pod that is not there has a namespace: %v", ns.Close())
	}
}

func TestNodePlan(t *testing.T) {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "tailgate-worker"}}
	if _, err := nodePlan(n); err == nil || !strings.Contains(err.Error(), "tailgate-worker has no addresses yet") {
		t.Errorf("a node that nobody has told of: %v", err)
	}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "10.89.0.7"}, {Type: corev1.NodeInternalIP, Address: "fc00:f853:ccd:e793::7"},
		{Type: corev1.NodeHostName, Address: "tailgate-worker"},
	}
	for family, cidrs := range map[lab.Family][]string{
		lab.Dual: {"10.244.1.0/24", "fd00:10:244:1::/64"}, lab.V4: {"10.244.1.0/24"}, lab.V6: {"fd00:10:244:1::/64"},
	} {
		n.Spec.PodCIDRs = cidrs
		p, err := nodePlan(n)
		if err != nil {
			t.Fatal(err)
		}
		if got := familyOf(lab.Plan{PodNets: p.PodNets}); got != family || len(p.Addrs) != 2 {
			t.Errorf("with %v the family is %s and the addresses are %v", cidrs, got, p.Addrs)
		}
	}
}
