package controller_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// TestTamper changes what was made for a group, and waits until it is as before.
func TestTamper(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.create(group("payments"))
	w.join("payments", "node-a")
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonReady)
	name := v1alpha1.GroupObjectName("payments")
	label := v1alpha1.NodeLabel("payments")
	tests := []struct {
		what   string
		object client.Object
		name   string
		patch  string
	}{
		{"configuration", &corev1.ConfigMap{}, name, `{"data":{"config.json":"{}"}}`},
		{"configuration gone", &corev1.ConfigMap{}, name, `{"data":null}`},
		{"label gone, so that it leaves the cache", &corev1.ConfigMap{}, name, `{"metadata":{"labels":{"` + v1alpha1.LabelGroup + `":null}}}`},
		{"owner gone", &corev1.ServiceAccount{}, name, `{"metadata":{"ownerReferences":null}}`},
		{"token mounted", &corev1.ServiceAccount{}, name, `{"automountServiceAccountToken":null}`},
		{"auth key without owner", &corev1.Secret{}, name, `{"metadata":{"ownerReferences":null}}`},
		{"auth key out of the cache", &corev1.Secret{}, name, `{"metadata":{"labels":null}}`},
		{"image", &appsv1.DaemonSet{}, name, `{"spec":{"template":{"spec":{"hostNetwork":true,"nodeSelector":null}}}}`},
		{"privileges", &appsv1.DaemonSet{}, name, `{"spec":{"template":{"spec":{"automountServiceAccountToken":null,"enableServiceLinks":true}}}}`},
		{"annotation of ours", &appsv1.DaemonSet{}, name, `{"metadata":{"annotations":{"tailscale.rajsingh.info/group":"x"}}}`},
		{"record of who wrote what gone", &corev1.ConfigMap{}, name, `{"metadata":{"managedFields":[{}]},"data":{"config.json":"{}"}}`},
		{"node label gone", &corev1.Node{}, "node-a", `{"metadata":{"labels":{"` + label + `":null}}}`},
		{"node label with a value", &corev1.Node{}, "node-a", `{"metadata":{"labels":{"` + label + `":"x"}}}`},
		{"node label of no group", &corev1.Node{}, "node-a", `{"metadata":{"labels":{"` + v1alpha1.NodeLabel("none") + `":""}}}`},
		{"finalizer gone", &v1alpha1.EgressGroup{}, "payments", `{"metadata":{"finalizers":null}}`},
		{"device's finalizer gone", &v1alpha1.EgressGateway{}, v1alpha1.GatewayName("payments", "node-a"), `{"metadata":{"finalizers":null}}`},
	}
	for _, tt := range tests {
		want := w.meaning(tt.object, tt.name)
		w.change(tt.object, tt.patch)
		if tt.what == "image" { // hostNetwork is nobody's but ours to leave out
			w.change(tt.object, `{"spec":{"template":{"spec":{"hostNetwork":null}}}}`)
		}
		w.until(tt.what, func() string { return cmp.Diff(want, w.meaning(tt.object, tt.name)) })
	}
	for _, o := range made() {
		want := w.meaning(o, name)
		if _, secret := o.(*corev1.Secret); secret {
			key := w.key("payments", "")
			w.must(w.client.Delete(w.ctx(), o))
			w.key("payments", key.ID)
			continue
		}
		uid := o.GetUID()
		w.must(w.client.Delete(w.ctx(), o))
		w.until(fmt.Sprintf("%T made anew", o), func() string {
			if !w.get(o, name) || o.GetUID() == uid {
				return "it is gone"
			}
			return cmp.Diff(want, w.meaning(o, name))
		})
	}
}

// TestTamperInOurName writes as the operator does: other values, and fields that are not wanted.
func TestTamperInOurName(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.create(group("payments"))
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonNoMembers)
	name := v1alpha1.GroupObjectName("payments")
	cm := &corev1.ConfigMap{}
	want := w.meaning(cm, name)
	for what, forged := range map[string]*corev1ac.ConfigMapApplyConfiguration{
		"another value": corev1ac.ConfigMap(name, w.ns).WithLabels(cm.Labels).WithAnnotations(cm.Annotations).WithData(map[string]string{"config.json": "{}"}),
		"one more":      corev1ac.ConfigMap(name, w.ns).WithLabels(cm.Labels).WithAnnotations(cm.Annotations).WithData(map[string]string{"more": "x"}),
		"nothing":       corev1ac.ConfigMap(name, w.ns),
	} {
		w.must(w.client.Apply(w.ctx(), forged, client.FieldOwner(controller.FieldManager), client.ForceOwnership))
		w.until(what, func() string { return cmp.Diff(want, w.meaning(cm, name)) })
	}
	// Nobody can write what the operator's cache makes of these, or it would take the hash from there.
	err := w.client.Patch(w.ctx(), cm, client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata":{"managedFields":[{"manager":"x","operation":"Reduced","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{}}]}}`)))
	w.get(cm, name)
	if forged := func(m metav1.ManagedFieldsEntry) bool { return m.Operation == "Reduced" }; slices.ContainsFunc(cm.ManagedFields, forged) {
		t.Errorf("the server takes any operation (%v)", err)
	}
}

// meaning returns of an object what the operator decides.
func (w *world) meaning(o client.Object, name string) map[string]any {
	w.Helper()
	if !w.get(o, name) {
		return map[string]any{"gone": true}
	}
	out := map[string]any{
		"labels": o.GetLabels(), "annotations": annotationsOf(o),
		"owners": o.GetOwnerReferences(), "finalizers": o.GetFinalizers(),
	}
	switch o := o.(type) {
	case *corev1.ConfigMap:
		out["data"] = o.Data
	case *corev1.Secret:
		out["key"] = string(o.Data["authkey"])
	case *corev1.ServiceAccount:
		out["token"] = *orTrue(o.AutomountServiceAccountToken)
	case *appsv1.DaemonSet:
		out["spec"] = o.Spec
	}
	return out
}

// annotationsOf leaves out what the API server counts.
func annotationsOf(o client.Object) map[string]string {
	out := maps.Clone(o.GetAnnotations())
	delete(out, appsv1.DeprecatedTemplateGeneration)
	return out
}

func orTrue(b *bool) *bool {
	if b == nil {
		return new(true)
	}
	return b
}

// TestOthersWrite: what others add to our objects, they keep, and nobody writes for ever.
func TestOthersWrite(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.create(group("payments"))
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonNoMembers)
	for _, o := range made() {
		w.get(o, v1alpha1.GroupObjectName("payments"))
		w.change(o, `{"metadata":{"annotations":{"backup.test/keep":"yes"},"labels":{"team":"net"}}}`)
	}
	w.requests.reset()
	w.change(group("payments"), `{"spec":{"acceptRoutes":false}}`)
	w.until("configuration written", func() string {
		cm := &corev1.ConfigMap{}
		w.get(cm, v1alpha1.GroupObjectName("payments"))
		if !strings.Contains(cm.Data["config.json"], `"acceptRoutes": false`) {
			return cm.Data["config.json"]
		}
		return ""
	})
	w.until("status written", func() string {
		if g := w.getGroup("payments"); g.Status.ObservedGeneration != 2 {
			return fmt.Sprint(g.Status.ObservedGeneration)
		}
		return ""
	})
	for _, o := range made() {
		w.get(o, v1alpha1.GroupObjectName("payments"))
		if o.GetAnnotations()["backup.test/keep"] != "yes" || o.GetLabels()["team"] != "net" {
			t.Errorf("%T lost what somebody else wrote", o)
		}
	}
	var paths []string
	for _, r := range w.requests.writes() {
		paths = append(paths, r.method+" "+r.path)
	}
	want := []string{
		"PATCH /api/v1/namespaces/" + w.ns + "/configmaps/gw-payments",
		"PATCH /apis/tailscale.rajsingh.info/v1alpha1/egressgroups/payments/status",
	}
	if diff := cmp.Diff(want, slices.Compact(slices.Sorted(slices.Values(paths)))); diff != "" {
		t.Errorf("a change of the configuration writes it and the status, nothing else (-want +got):\n%s", diff)
	}
}
