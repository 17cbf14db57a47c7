package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// TestApply lets several managers apply parts of one group, with no conflict and none losing its part.
func TestApply(t *testing.T) {
	env := kubetest.Shared(t)
	apply := func(manager, spec string) (string, error) {
		t.Helper()
		o := object(t, "EgressGroup", "applied", spec)
		err := env.Client.Apply(env.Context, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager))
		return o.GetResourceVersion(), err
	}
	applyStatus := func(manager, status string) (string, error) {
		t.Helper()
		o := object(t, "EgressGroup", "applied", status)
		o.Object["status"] = o.Object["spec"]
		delete(o.Object, "spec")
		err := env.Client.Status().Apply(env.Context, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager))
		return o.GetResourceVersion(), err
	}
	condition := func(kind string) string {
		return `{conditions: [{type: ` + kind + `, status: "True", reason: Fine, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}]}`
	}
	steps := []struct {
		manager, part string
		apply         func(manager, part string) (string, error)
	}{
		{"user", `{selector: {podSelector: {matchLabels: {app: x}}}, mode: subnet, routes: [10.0.0.0/8]}`, apply},
		{"network-team", `{routes: [192.168.0.0/16]}`, apply},
		{"security-team", `{selector: {namespaceSelector: {matchLabels: {team: a}}}, tags: ["tag:a"]}`, apply},
		{"exit-picker", `{exitNode: {nodeID: "auto:any"}}`, apply},
		{"tailgate-operator", `{memberPods: 3, gateways: {desired: 2, ready: 1}}`, applyStatus},
		{"one", condition("Ready"), applyStatus},
		{"two", condition("AuthKeyReady"), applyStatus},
	}
	var version string
	for _, s := range steps {
		var err error
		if version, err = s.apply(s.manager, s.part); err != nil {
			t.Fatalf("%s applies %s: %v", s.manager, s.part, err)
		}
	}
	for _, s := range steps {
		again, err := s.apply(s.manager, s.part)
		if err != nil {
			t.Fatalf("%s applies %s again: %v", s.manager, s.part, err)
		}
		if again != version {
			t.Errorf("%s applied the same again, and the group changed", s.manager)
		}
	}

	wantSpec(t, env, "applied", strings.TrimPrefix(`
acceptRoutes: true
attach: routed
datapath: kernel
exitNode:
  allowLANAccess: false
  nodeID: auto:any
mode: subnet
replicas: 1
routes:
- 10.0.0.0/8
- 192.168.0.0/16
selector:
  namespaceSelector:
    matchLabels:
      team: a
  podSelector:
    matchLabels:
      app: x
tags:
- tag:a
`, "\n"))

	// A part of a selector is one thing: labels added by somebody else would silently select less.
	for _, taken := range []string{
		`{mode: cgnat}`, `{selector: {podSelector: {matchLabels: {other: x}}}}`, `{selector: {namespaceSelector: {matchLabels: {other: x}}}}`,
	} {
		if _, err := apply("network-team", taken); !apierrors.IsConflict(err) {
			t.Errorf("another manager's part was taken over without force, by %s: %v", taken, err)
		}
	}
	// Who applies less gives up the rest, and only its own.
	if _, err := apply("network-team", `{routes: [172.16.0.0/12]}`); err != nil {
		t.Fatal(err)
	}
	o := object(t, "EgressGroup", "applied", "{}")
	if err := env.Client.Get(env.Context, client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	routes, _, err := unstructured.NestedStringSlice(o.Object, "spec", "routes")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "172.16.0.0/12"}, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
	if err != nil {
		t.Fatal(err)
	}
	if len(conditions) != 2 {
		t.Errorf("two managers' conditions became %v", conditions)
	}
}
