package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// made returns empty objects of the kinds that are made for a group.
func made() []client.Object {
	return []client.Object{&appsv1.DaemonSet{}, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.ServiceAccount{}}
}

func TestGroupLifeAndDeath(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.node("node-b")
	w.create(group("payments"))
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonNoMembers)

	a, b := w.join("payments", "node-a"), w.join("payments", "node-b")
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonReady)
	w.until("two gateways, four pods", func() string {
		g := w.getGroup("payments")
		return cmp.Diff(v1alpha1.EgressGroupStatus{
			ObservedGeneration: 1, MemberPods: 4, Gateways: v1alpha1.GatewayCount{Desired: 2, Ready: 2},
			Tags: []string{"tag:egress-payments"}, ConfigHash: a.Status.ConfigHash,
		}, withoutConditions(g.Status))
	})
	got := map[string]string{}
	for _, c := range w.getGroup("payments").Status.Conditions {
		got[c.Type] = string(c.Status) + " " + c.Reason
		if c.ObservedGeneration != 1 || c.Message == "" {
			t.Errorf("condition %+v", c)
		}
	}
	if diff := cmp.Diff(map[string]string{
		"AuthKeyReady": "True KeyValid", "ConfigRendered": "True Rendered", "GatewaysReady": "True AllReady",
		"MembersConflicting": "False NoConflict", "Ready": "True Ready",
	}, got); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	w.checkOwnership("payments")
	w.event("payments", controller.ReasonKeyMinted)
	w.event("payments", controller.ReasonReady)

	w.must(w.client.Delete(w.ctx(), group("payments")))
	w.gone("payments")
	w.event(a.Name, controller.ReasonDeviceDeleted)
	w.event(b.Name, controller.ReasonDeviceDeleted)
}

func withoutConditions(s v1alpha1.EgressGroupStatus) v1alpha1.EgressGroupStatus {
	s.Conditions = nil
	return s
}

// checkOwnership checks that what is made for a group says so, and that the operator is the only one who wrote it.
func (w *world) checkOwnership(name string) {
	w.Helper()
	g := w.getGroup(name)
	for _, o := range made() {
		if !w.get(o, v1alpha1.GroupObjectName(name)) {
			w.Errorf("there is no %T", o)
			continue
		}
		if !metav1.IsControlledBy(o, g) || o.GetLabels()[v1alpha1.LabelGroup] != v1alpha1.GroupKey(name) {
			w.Errorf("%T: owners %v, labels %v", o, o.GetOwnerReferences(), o.GetLabels())
		}
		for _, m := range o.GetManagedFields() {
			if m.Subresource == "" && (m.Manager != controller.FieldManager || m.Operation != metav1.ManagedFieldsOperationApply) {
				w.Errorf("%T is written by %s with %s", o, m.Manager, m.Operation)
			}
		}
	}
}

func TestLongNames(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	if len(longName) != 253 {
		t.Fatal(len(longName))
	}
	for _, name := range []string{longName, "a.b", "a-b"} {
		g := group(name)
		if name == "a-b" { // by default the two have one tag, which is the tailnet's limit on tags
			g.Spec.Tags = []string{"tag:egress-peers"}
		}
		w.create(g)
		w.join(name, "node-a")
		w.condition(name, v1alpha1.ConditionReady, controller.ReasonReady)
		w.checkOwnership(name)
		w.event(name, controller.ReasonKeyMinted)
	}
	w.must(w.client.Delete(w.ctx(), group("a.b")))
	w.gone("a.b")
	w.checkOwnership("a-b")
	w.must(w.client.Delete(w.ctx(), group(longName)))
	w.gone(longName)
}

// TestSteadyState starts another operator beside groups that are as they should be.
func TestSteadyState(t *testing.T) {
	w := newWorld(t)
	first := w.operator()
	const groups = 10
	w.node("node-a")
	for i := range groups {
		w.create(group(fmt.Sprintf("group-%03d", i)))
	}
	for i := range groups {
		w.join(fmt.Sprintf("group-%03d", i), "node-a")
	}
	for i := range groups {
		w.until("settled", func() string {
			s := w.getGroup(fmt.Sprintf("group-%03d", i)).Status
			return cmp.Diff([]int32{1, 1, 2}, []int32{s.Gateways.Desired, s.Gateways.Ready, s.MemberPods})
		})
	}
	first.stop()
	before := w.versions()
	w.requests.reset()
	mark := len(w.log.String())
	w.operator()
	w.until("all reconciled", func() string {
		log := w.log.String()[mark:]
		for i := range groups {
			name := fmt.Sprintf("group-%03d", i)
			for _, object := range []string{"EgressGroup=" + name + " ", "EgressGateway=" + v1alpha1.GatewayName(name, "node-a") + " "} {
				if !reconciled(log, object) {
					return object + "is not reconciled"
				}
			}
		}
		if !reconciled(log, "Node=node-a ") {
			return "the node is not reconciled"
		}
		return ""
	})
	if writes := w.requests.writes(); len(writes) > 0 {
		t.Errorf("nothing had to be written, but:\n%v", writes)
	}
	var single []asked
	for _, r := range w.requests.list() {
		if !strings.Contains(r.query, "watch=") && strings.Contains(r.path, "/gw-") {
			single = append(single, r)
		}
	}
	if len(single) > 0 {
		t.Errorf("nothing had to be asked about single objects, but:\n%v", single)
	}
	if diff := cmp.Diff(before, w.versions()); diff != "" {
		t.Errorf("resource versions (-before +after):\n%s", diff)
	}
}

// reconciled reports whether the log says that a reconcile of the object succeeded.
func reconciled(log, object string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, object) && (strings.Contains(line, "Reconcile successful") || strings.Contains(line, "Reconcile done")) {
			return true
		}
	}
	return false
}

// versions returns the resource version of everything that the operator may write.
func (w *world) versions() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, list := range []client.ObjectList{
		&v1alpha1.EgressGroupList{}, &v1alpha1.EgressGatewayList{}, &appsv1.DaemonSetList{}, &corev1.SecretList{},
		&corev1.ConfigMapList{}, &corev1.ServiceAccountList{}, &corev1.NodeList{},
	} {
		w.must(w.client.List(w.ctx(), list, client.InNamespace(w.ns)))
		w.must(eachItem(list, func(o client.Object) { out[fmt.Sprintf("%T %s", o, o.GetName())] = o.GetResourceVersion() }))
	}
	return out
}

// eachItem calls f with each object of a list.
func eachItem(list client.ObjectList, f func(client.Object)) error {
	return meta.EachListItem(list, func(o runtime.Object) error {
		f(o.(client.Object))
		return nil
	})
}
