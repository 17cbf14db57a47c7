package controller

import (
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// The cache is most of the operator's memory, so each kind has of an object only what somebody reads. What is
// left out is not lost on the server: a patch names what differs from the object as it was read.

// CacheOptions returns what the manager's cache watches: EgressGroups, of nodes the names and our labels, and in
// the operator's namespace what is made for groups. Reading any other kind through the cache is an
// error, since it would begin to watch it in the whole cluster.
func CacheOptions(namespace string) cache.Options {
	made, err := labels.NewRequirement(v1alpha1.LabelGroup, selection.Exists, nil)
	if err != nil {
		panic(err) // a constant
	}
	ours := cache.ByObject{Transform: reduce, Namespaces: map[string]cache.Config{
		namespace: {LabelSelector: labels.NewSelector().Add(*made)},
	}}
	w := &words{}
	return cache.Options{
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            slim,
		// Watches tell of every change; going through all objects now and then would only hide a fault.
		SyncPeriod: new(time.Duration),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.EgressGroup{}:   {Transform: w.slimGroup},
			&v1alpha1.EgressGateway{}: {Transform: w.slimGateway, Namespaces: map[string]cache.Config{namespace: {}}},
			&appsv1.DaemonSet{}:       ours,
			&corev1.ConfigMap{}:       ours,
			&corev1.Secret{}:          ours,
			&corev1.ServiceAccount{}:  ours,
			&corev1.Node{}:            {Transform: slimNode},
		},
	}
}

// slim leaves out what nobody reads of any object.
func slim(obj any) (any, error) {
	if o, ok := obj.(metav1.Object); ok {
		o.SetManagedFields(nil)
		if a := o.GetAnnotations(); a != nil {
			delete(a, corev1.LastAppliedConfigAnnotation)
		}
	}
	return obj, nil
}

// slimNode leaves a node its name and our labels.
func slimNode(obj any) (any, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil // a tombstone
	}
	o.SetManagedFields(nil)
	o.SetAnnotations(nil)
	o.SetOwnerReferences(nil)
	o.SetLabels(nodeLabels(o.GetLabels()))
	return obj, nil
}

// slimMeta leaves metadata what controllers need.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Generation: m.Generation, DeletionTimestamp: m.DeletionTimestamp, Finalizers: m.Finalizers,
	}
}

// words are texts of conditions, which are the same in most objects: one copy does for all.
type words struct {
	mu sync.Mutex
	of map[[2]string]metav1.Condition // the last one with that type and reason
}

// maxWords bounds what agents can have remembered.
const maxWords = 1000

func (w *words) slimGroup(obj any) (any, error) {
	g, ok := obj.(*v1alpha1.EgressGroup)
	if !ok {
		return obj, nil
	}
	g.TypeMeta, g.ObjectMeta = metav1.TypeMeta{}, slimMeta(g.ObjectMeta)
	g.Status.Conditions = w.share(g.Status.Conditions)
	return g, nil
}

// slimGateway leaves an EgressGateway the part of its status that groups add up.
func (w *words) slimGateway(obj any) (any, error) {
	g, ok := obj.(*v1alpha1.EgressGateway)
	if !ok {
		return obj, nil
	}
	g.TypeMeta, g.ObjectMeta = metav1.TypeMeta{}, slimMeta(g.ObjectMeta)
	read := slices.DeleteFunc(g.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type != v1alpha1.ConditionReady && c.Type != v1alpha1.ConditionAuthKeyAccepted && c.Type != v1alpha1.ConditionMembersConflicting
	})
	g.Status = v1alpha1.EgressGatewayStatus{
		DeviceID: g.Status.DeviceID, Tags: g.Status.Tags, Members: g.Status.Members, ExitNode: g.Status.ExitNode,
		ConfigHash: g.Status.ConfigHash, Conditions: w.share(read),
	}
	return g, nil
}

// share returns the conditions in as little memory as there is to it.
func (w *words) share(conditions []metav1.Condition) []metav1.Condition {
	if len(conditions) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = map[[2]string]metav1.Condition{}
	}
	out := make([]metav1.Condition, len(conditions)) // decoders leave room for more
	for i, c := range conditions {
		last, known := w.of[[2]string{c.Type, c.Reason}]
		c.Type, c.Reason = either(last.Type, c.Type), either(last.Reason, c.Reason)
		c.Status, c.Message = either(last.Status, c.Status), either(last.Message, c.Message)
		if known || len(w.of) < maxWords {
			w.of[[2]string{c.Type, c.Reason}] = c
		}
		out[i] = c
	}
	return out
}

// either returns the first of two texts if they are equal, so that the other's memory can go; else the second.
func either[T ~string](first, second T) T {
	if first == second {
		return first
	}
	return second
}
