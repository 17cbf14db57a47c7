//go:build linux

package main

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/test/deploy/cidrs"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{}) }

// TestClusterCIDRs asks a real API server, whose service network is an object, of which nodes and then kubeadm's
// configuration tell more.
func TestClusterCIDRs(t *testing.T) {
	env := kubetest.Start(t, kubetest.Options{Flags: map[string]string{"service-cluster-ip-range": "10.96.0.0/16"}})
	look := func(want string) {
		t.Helper()
		got, err := cidrs.Of(env.Context, env.Client)
		if text := strings.Trim(fmt.Sprint(got), "[]"); err != nil || text != want {
			t.Errorf("CIDRs %s, %v, want %s", text, err, want)
		}
	}
	if _, err := cidrs.Of(env.Context, env.Client); err == nil || !strings.Contains(err.Error(), "--cluster-cidrs") {
		t.Errorf("a cluster without nodes: %v", err)
	}
	for i, cidrs := range [][]string{{"10.244.0.0/24", "fd00:10:244::/64"}, {"10.244.1.0/24", "fd00:10:244:1::/64"}} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}, Spec: corev1.NodeSpec{PodCIDR: cidrs[0], PodCIDRs: cidrs}}
		if err := env.Client.Create(env.Context, node); err != nil {
			t.Fatal(err)
		}
	}
	look("10.96.0.0/16 10.244.0.0/24 10.244.1.0/24 fd00:10:244::/64 fd00:10:244:1::/64")
	kubeadm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config"},
		Data: map[string]string{"ClusterConfiguration": "networking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16,fd00:10:244::/56\n" +
			"  serviceSubnet: 10.96.0.0/16,fd00:10:96::/112\n"},
	}
	if err := env.Client.Create(env.Context, kubeadm); err != nil {
		t.Fatal(err)
	}
	look("10.96.0.0/16 10.244.0.0/16 fd00:10:96::/112 fd00:10:244::/56")
}

// TestManifests applies the tailnet's manifests twice, and makes a pod of the Deployment in its namespace, which refuses
// any that asks for a privilege.
func TestManifests(t *testing.T) {
	env := kubetest.Shared(t)
	d := &deployment{client: env.Client, root: root}
	for range 2 {
		for _, text := range [][]byte{serviceManifest, manifestOf(t, "fd00:10:96::7")} {
			if err := d.apply(env.Context, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	var dep appsv1.Deployment
	if err := yaml.Unmarshal(manifestOf(t, "10.96.0.7"), &dep); err != nil {
		t.Fatal(err)
	}
	tmpl := dep.Spec.Template
	tmpl.Namespace, tmpl.Name = dep.Namespace, "tailnet-1"
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: dep.Namespace, Name: "default"}} // no controller makes it here
	if err := env.Client.Create(env.Context, account); err != nil {
		t.Fatal(err)
	}
	if err := env.Client.Create(env.Context, &corev1.Pod{ObjectMeta: tmpl.ObjectMeta, Spec: tmpl.Spec}); err != nil {
		t.Errorf("the tailnet's namespace does not take its pod: %v", err)
	}
	ports := map[string]int32{}
	for _, p := range tmpl.Spec.Containers[0].Ports {
		ports[p.Name] = p.ContainerPort
	}
	var svc corev1.Service
	if err := env.Client.Get(env.Context, client.ObjectKey{Namespace: tailnetNamespace, Name: tailnetName}, &svc); err != nil {
		t.Fatal(err)
	}
	for _, p := range svc.Spec.Ports {
		if ports[p.Name] != p.Port {
			t.Errorf("the Service's port %s is %d, the pod's %d", p.Name, p.Port, ports[p.Name])
		}
	}
	if ports["control"] != controlPort || ports["api"] != apiPort {
		t.Errorf("ports %v", ports)
	}
}

// TestIdentityIsKept: a later run finds what the first made.
func TestIdentityIsKept(t *testing.T) {
	env := kubetest.Start(t, kubetest.Options{})
	d := &deployment{client: env.Client, root: root}
	if err := d.apply(env.Context, serviceManifest); err != nil {
		t.Fatal(err)
	}
	first, err := d.identity(env.Context)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.identity(env.Context)
	if err != nil || again != first || first.id == "" || first.tailnet != "-" {
		t.Errorf("identity %v then %v, %v", first.id, again.id, err)
	}
}
