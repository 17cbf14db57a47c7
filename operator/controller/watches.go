package controller

import (
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// Indexes of EgressGateways; the server knows them too (selectable fields).
const (
	byGroup = "spec.group"
	byNode  = "spec.node"
)

func index(ctx context.Context, indexer client.FieldIndexer) error {
	for field, value := range map[string]func(v1alpha1.EgressGatewaySpec) string{
		byGroup: func(s v1alpha1.EgressGatewaySpec) string { return s.Group },
		byNode:  func(s v1alpha1.EgressGatewaySpec) string { return s.Node },
	} {
		err := indexer.IndexField(ctx, &v1alpha1.EgressGateway{}, field, func(o client.Object) []string {
			return []string{value(o.(*v1alpha1.EgressGateway).Spec)}
		})
		if err != nil {
			return fmt.Errorf("index EgressGateways by %s: %w", field, err)
		}
	}
	return nil
}

// addGroups: a group is reconciled when it, its gateways or an object made for it changes, and when
// the credentials do. Its own status is no exception: a status that was tampered with is mended.
func (s *shared) addGroups(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("egressgroup").
		For(&v1alpha1.EgressGroup{}).
		Owns(&appsv1.DaemonSet{}).Owns(&corev1.Secret{}).Owns(&corev1.ConfigMap{}).Owns(&corev1.ServiceAccount{}).
		Watches(&v1alpha1.EgressGateway{}, handler.EnqueueRequestsFromMapFunc(groupOf)).
		WatchesRawSource(source.Kind(s.creds.cache, &corev1.Secret{}, handler.TypedEnqueueRequestsFromMapFunc(s.allGroups))).
		WithOptions(s.options("EgressGroup")).
		Complete(&groups{shared: s, timers: &timers{}, told: &told{}})
}

// addGateways: an EgressGateway is reconciled when it, its group, the tags of the group's key or its node changes,
// and when the credentials do.
func (s *shared) addGateways(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("egressgateway").
		For(&v1alpha1.EgressGateway{}).
		Watches(&v1alpha1.EgressGroup{}, handler.EnqueueRequestsFromMapFunc(s.gatewaysOfGroup), builder.WithPredicates(specOrDeletion())).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(s.gatewaysOfOwner), builder.WithPredicates(keyTagsChanged())).
		WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(s.gatewaysOfNode), builder.WithPredicates(labelsChanged())).
		WatchesRawSource(source.Kind(s.creds.cache, &corev1.Secret{}, handler.TypedEnqueueRequestsFromMapFunc(s.allGateways))).
		WithOptions(s.options("EgressGateway")).
		Complete(&gateways{shared: s, tagged: &tagged{}})
}

// addNodes: a node is reconciled when our labels on it or its EgressGateways change, or their groups.
func (s *shared) addNodes(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("node").
		For(&corev1.Node{}, builder.OnlyMetadata, builder.WithPredicates(labelsChanged())).
		Watches(&v1alpha1.EgressGateway{}, handler.EnqueueRequestsFromMapFunc(nodeOf)).
		Watches(&v1alpha1.EgressGroup{}, handler.EnqueueRequestsFromMapFunc(s.nodesOfGroup), builder.WithPredicates(specOrDeletion())).
		WithOptions(s.options("Node")).
		Complete(&nodes{shared: s})
}

func groupOf(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{named(o.(*v1alpha1.EgressGateway).Spec.Group)}
}

func nodeOf(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{named(o.(*v1alpha1.EgressGateway).Spec.Node)}
}

func named(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

func (s *shared) allGroups(ctx context.Context, _ *corev1.Secret) []reconcile.Request {
	list := &v1alpha1.EgressGroupList{}
	if err := s.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "cannot list EgressGroups after a change of the tailnet's credentials")
		return nil
	}
	out := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		out[i] = named(list.Items[i].Name)
	}
	return out
}

func (s *shared) allGateways(ctx context.Context, _ *corev1.Secret) []reconcile.Request {
	return s.gatewayRequests(ctx)
}

func (s *shared) gatewaysOfGroup(ctx context.Context, o client.Object) []reconcile.Request {
	return s.gatewayRequests(ctx, client.MatchingFields{byGroup: o.GetName()})
}

// gatewaysOfOwner returns those of the group that an object was made for.
func (s *shared) gatewaysOfOwner(ctx context.Context, o client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(o)
	if owner == nil {
		return nil // until the operator has mended it
	}
	return s.gatewayRequests(ctx, client.MatchingFields{byGroup: owner.Name})
}

func (s *shared) gatewaysOfNode(ctx context.Context, o client.Object) []reconcile.Request {
	return s.gatewayRequests(ctx, client.MatchingFields{byNode: o.GetName()})
}

func (s *shared) gatewayRequests(ctx context.Context, which ...client.ListOption) []reconcile.Request {
	list, err := s.listGateways(ctx, which...)
	if err != nil {
		log.FromContext(ctx).Error(err, "cannot tell which EgressGateways a change concerns")
	}
	out := make([]reconcile.Request, len(list))
	for i := range list {
		out[i] = reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list[i])}
	}
	return out
}

func (s *shared) nodesOfGroup(ctx context.Context, o client.Object) []reconcile.Request {
	list, err := s.listGateways(ctx, client.MatchingFields{byGroup: o.GetName()})
	if err != nil {
		log.FromContext(ctx).Error(err, "cannot tell which nodes a change of an EgressGroup concerns")
	}
	out := make([]reconcile.Request, len(list))
	for i := range list {
		out[i] = named(list[i].Spec.Node)
	}
	return out
}

// listGateways returns EgressGateways of the cache; they share memory with it and must not be changed.
func (s *shared) listGateways(ctx context.Context, which ...client.ListOption) ([]v1alpha1.EgressGateway, error) {
	list := &v1alpha1.EgressGatewayList{}
	which = append(which, client.InNamespace(s.Render.Namespace), client.UnsafeDisableDeepCopy)
	if err := s.client.List(ctx, list, which...); err != nil {
		return nil, fmt.Errorf("list EgressGateways: %w", err)
	}
	return list.Items, nil
}

// specOrDeletion passes what changes the meaning of an object: not its status.
func specOrDeletion() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() ||
			e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
			deleting(e.ObjectOld) != deleting(e.ObjectNew)
	}}
}

// keyTagsChanged passes Secrets whose key gives other tags than the one before.
func keyTagsChanged() predicate.Predicate {
	tags := func(o client.Object) string { return o.GetAnnotations()[render.AnnotationKeyTags] }
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList }, // every gateway is looked at then
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool { return tags(e.ObjectOld) != tags(e.ObjectNew) },
	}
}

// labelsChanged passes updates of nodes by our labels; kubelets write to their nodes all the time.
func labelsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !maps.Equal(nodeLabels(e.ObjectOld.GetLabels()), nodeLabels(e.ObjectNew.GetLabels()))
	}}
}

func deleting(o metav1.Object) bool { return !o.GetDeletionTimestamp().IsZero() }
