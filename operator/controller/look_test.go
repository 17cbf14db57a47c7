package controller_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// group returns an EgressGroup that selects some pods.
func group(name string) *v1alpha1.EgressGroup {
	return &v1alpha1.EgressGroup{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.EgressGroupSpec{Selector: v1alpha1.Selector{
			PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tailgate.dev/egress": "true"}},
		}},
	}
}

func (w *world) create(o client.Object) {
	w.Helper()
	w.must(w.client.Create(w.ctx(), o))
}

// get reads an object of the world's namespace, or of none, into o and reports whether it is there.
func (w *world) get(o client.Object, name string) bool {
	w.Helper()
	key := client.ObjectKey{Name: name}
	if namespaced, _ := w.client.IsObjectNamespaced(o); namespaced {
		key.Namespace = w.ns
	}
	err := w.client.Get(w.ctx(), key, o)
	w.must(client.IgnoreNotFound(err))
	return err == nil
}

func (w *world) getGroup(name string) *v1alpha1.EgressGroup {
	w.Helper()
	g := &v1alpha1.EgressGroup{}
	if !w.get(g, name) {
		return nil
	}
	return g
}

// change merges a patch into an object, as users do.
func (w *world) change(o client.Object, patch string) {
	w.Helper()
	w.must(w.client.Patch(w.ctx(), o, client.RawPatch(types.MergePatchType, []byte(patch))))
}

// pass lets time pass and makes the operator look at a group.
func (w *world) pass(d time.Duration, touch ...client.Object) {
	w.Helper()
	w.clock.SetTime(w.clock.Now().Add(d))
	for _, o := range touch {
		w.change(o, fmt.Sprintf(`{"metadata":{"annotations":{"test/time":%q}}}`, w.clock.Now().Format(time.RFC3339Nano)))
	}
}

// condition waits until the group's condition has the reason and returns it.
func (w *world) condition(name, kind, reason string) metav1.Condition {
	w.Helper()
	var c *metav1.Condition
	w.until(fmt.Sprintf("condition %s of %s", kind, name), func() string {
		g := w.getGroup(name)
		if g == nil {
			return "the group is gone"
		}
		c = meta.FindStatusCondition(g.Status.Conditions, kind)
		if c == nil || c.Reason != reason {
			return fmt.Sprintf("want reason %s, have %+v", reason, c)
		}
		return ""
	})
	return *c
}

// key waits until the group's auth key is another one than old and returns it.
func (w *world) key(name, old string) render.AuthKey {
	w.Helper()
	var key render.AuthKey
	w.until("auth key of "+name, func() string {
		s := &corev1.Secret{}
		if !w.get(s, v1alpha1.GroupObjectName(name)) {
			return "no Secret"
		}
		var err error
		if key, err = render.ParseAuthKeySecret(s); err != nil {
			return err.Error()
		}
		if key.Key == "" || key.ID == old {
			return "still " + key.String()
		}
		return ""
	})
	return key
}

// validKeys returns the IDs of keys that are good.
func (w *world) validKeys() (ids []string) {
	for _, k := range w.tailnet.Keys() {
		if k.Valid() {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// keyIsValid reports whether a node could log in with the key now.
func (w *world) keyIsValid(id string) bool { return slices.Contains(w.validKeys(), id) }

// events returns the events about an object, by reason.
func (w *world) events(name string) map[string]eventsv1.Event {
	w.Helper()
	out := map[string]eventsv1.Event{}
	for _, ns := range []string{w.ns, metav1.NamespaceDefault} {
		list := &eventsv1.EventList{}
		w.must(w.client.List(w.ctx(), list, client.InNamespace(ns)))
		for _, e := range list.Items {
			if e.Regarding.Name == name {
				out[e.Reason] = e
			}
		}
	}
	return out
}

// event waits for an event about an object and returns its text.
func (w *world) event(name, reason string) string {
	w.Helper()
	var note string
	w.until("event "+reason+" about "+name, func() string {
		all := w.events(name)
		e, ok := all[reason]
		note = e.Note
		if !ok {
			return fmt.Sprintf("there are only %v", slices.Sorted(maps.Keys(all)))
		}
		return ""
	})
	return note
}

// gone waits until a group is gone, and checks that nothing of it is left by then: no object, no label, no good
// key, no device.
func (w *world) gone(name string) {
	w.Helper()
	w.until("end of group "+name, func() string {
		if w.getGroup(name) != nil {
			return "it is there"
		}
		return ""
	})
	if left := w.remains(name); left != "" {
		w.Errorf("group %s is gone, but %s", name, left)
	}
}

// remains returns what is left of a group.
func (w *world) remains(name string) string {
	w.Helper()
	for _, o := range []client.Object{&appsv1.DaemonSet{}, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.ServiceAccount{}} {
		if w.get(o, v1alpha1.GroupObjectName(name)) {
			return fmt.Sprintf("there is still a %T", o)
		}
	}
	for _, g := range w.gateways() {
		if g.Spec.Group == name {
			return "there is still EgressGateway " + g.Name
		}
	}
	nodes := &corev1.NodeList{}
	w.must(w.client.List(w.ctx(), nodes, client.HasLabels{v1alpha1.NodeLabel(name)}))
	if len(nodes.Items) > 0 {
		return "still labelled: " + nodes.Items[0].Name
	}
	for _, k := range w.tailnet.Keys() {
		if k.Valid() && slices.Contains(k.Tags, v1alpha1.DefaultTag(name)) {
			return "auth key " + k.ID + " is still good"
		}
	}
	if n := w.tailnet.NodesByTag(v1alpha1.DefaultTag(name)); len(n) > 0 {
		return "there is still device " + string(n[0].StableID)
	}
	return ""
}

func (w *world) gateways() []v1alpha1.EgressGateway {
	w.Helper()
	list := &v1alpha1.EgressGatewayList{}
	w.must(w.client.List(w.ctx(), list, client.InNamespace(w.ns)))
	return list.Items
}

// sweep takes away what is not in the world's namespace, for the next test.
func (w *world) sweep() {
	w.cluster.stop()
	groups := &v1alpha1.EgressGroupList{}
	w.must(w.client.List(w.ctx(), groups))
	for i := range groups.Items {
		g := &groups.Items[i]
		w.must(client.IgnoreNotFound(w.client.Delete(w.ctx(), g)))
		w.must(client.IgnoreNotFound(w.client.Patch(w.ctx(), g, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))))
	}
	w.must(w.client.DeleteAllOf(w.ctx(), &corev1.Node{}))
}

// checkSecrets looks for secrets where there must be none: logs, events, and all objects but Secrets.
func (w *world) checkSecrets() {
	secrets := w.secrets
	for _, k := range w.tailnet.Keys() {
		secrets = append(secrets, k.Secret)
	}
	places := map[string]string{"log": w.log.String()}
	for _, list := range []client.ObjectList{
		&v1alpha1.EgressGroupList{}, &v1alpha1.EgressGatewayList{}, &eventsv1.EventList{},
		&corev1.ConfigMapList{}, &corev1.ServiceAccountList{}, &appsv1.DaemonSetList{}, &corev1.NodeList{},
	} {
		w.must(w.client.List(w.ctx(), list))
		text, err := json.Marshal(list)
		w.must(err)
		places[fmt.Sprintf("%T", list)] = string(text)
	}
	for place, text := range places {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				w.Errorf("a secret is in %s", place)
			}
		}
	}
	if len(secrets) == 0 || !strings.Contains(places["log"], "tailnet credentials loaded") && w.log.String() != "" && w.requests.len() == 0 {
		w.Error("nothing was looked for")
	}
}
