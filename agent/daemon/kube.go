package daemon

import (
	"context"
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Annotations of mirror pods, which stand in the API for a pod of a file on the node (static pods). The runtime
// knows such a pod by the hash of its file, not by the mirror's UID.
const (
	annotationMirror = corev1.MirrorPodAnnotationKey
	annotationHash   = "kubernetes.io/config.hash"
)

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}

// metadata returns an object of which only the metadata is watched.
func metadata(gvk schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(gvk)
	return o
}

func namespaceMetadata() *metav1.PartialObjectMetadata {
	return metadata(corev1.SchemeGroupVersion.WithKind("Namespace"))
}

func daemonSetMetadata() *metav1.PartialObjectMetadata {
	return metadata(appsv1.SchemeGroupVersion.WithKind("DaemonSet"))
}

// cacheOptions say what is watched. Of each kind only what is read is kept, so that the agent's memory follows the node's pods
// and hardly the cluster's size.
func cacheOptions(o Options, scheme *runtime.Scheme) cache.Options {
	onNode := func(field string) fields.Selector { return fields.OneTermEqualSelector(field, o.Node) }
	return cache.Options{
		Scheme:                      scheme,
		ReaderFailOnMissingInformer: true,
		SyncPeriod:                  new(time.Duration), // never: watches tell of every change
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:             {Field: onNode("spec.nodeName"), Transform: slimPod},
			namespaceMetadata():       {Transform: slimMeta(true)},
			&corev1.Node{}:            {Transform: slimNode},
			&v1alpha1.EgressGroup{}:   {Transform: slimGroup},
			&v1alpha1.EgressGateway{}: {Namespaces: map[string]cache.Config{o.Namespace: {}}, Field: onNode("spec.node"), Transform: slimGateway},
			daemonSetMetadata(): { // asked for only by name, as the role allows
				Namespaces: map[string]cache.Config{o.Namespace: {}},
				Field:      fields.OneTermEqualSelector("metadata.name", o.DaemonSet), Transform: slimMeta(false),
			},
		},
	}
}

// slimPod keeps what membership and the search for gateways read.
func slimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil // a tombstone
	}
	keep := &corev1.Pod{ObjectMeta: slimMetadata(p.ObjectMeta, true)}
	for _, key := range []string{annotationMirror, annotationHash, v1alpha1.AnnotationGroup} {
		if v, ok := p.Annotations[key]; ok {
			if keep.Annotations == nil {
				keep.Annotations = map[string]string{}
			}
			keep.Annotations[key] = v
		}
	}
	keep.Spec.NodeName, keep.Spec.HostNetwork = p.Spec.NodeName, p.Spec.HostNetwork
	keep.Status.Phase = p.Status.Phase
	return keep, nil
}

func slimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	return &corev1.Node{
		ObjectMeta: slimMetadata(n.ObjectMeta, false),
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: n.Status.Addresses},
	}, nil
}

func slimGroup(obj any) (any, error) {
	g, ok := obj.(*v1alpha1.EgressGroup)
	if !ok {
		return obj, nil
	}
	return &v1alpha1.EgressGroup{ObjectMeta: slimMetadata(g.ObjectMeta, false), Spec: g.Spec}, nil
}

func slimGateway(obj any) (any, error) {
	if g, ok := obj.(*v1alpha1.EgressGateway); ok {
		g.ManagedFields = nil
	}
	return obj, nil
}

func slimMeta(labels bool) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(*metav1.PartialObjectMetadata); ok {
			o.ObjectMeta = slimMetadata(o.ObjectMeta, labels)
		}
		return obj, nil
	}
}

func slimMetadata(m metav1.ObjectMeta, labels bool) metav1.ObjectMeta {
	keep := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
	if labels {
		keep.Labels = maps.Clone(m.Labels)
	}
	return keep
}

// runtimeUID returns the UID by which the runtime knows a pod.
func runtimeUID(p *corev1.Pod) types.UID {
	if _, mirror := p.Annotations[annotationMirror]; mirror {
		if hash := p.Annotations[annotationHash]; hash != "" {
			return types.UID(hash)
		}
	}
	return p.UID
}

// watches are the registrations of handlers with the cache.
type watches struct {
	list []toolscache.ResourceEventHandlerRegistration
}

// synced waits until every handler was told of all that there is.
func (w *watches) synced(ctx context.Context) bool {
	checks := make([]toolscache.InformerSynced, len(w.list))
	for i, r := range w.list {
		checks[i] = r.HasSynced
	}
	return toolscache.WaitForCacheSync(ctx.Done(), checks...)
}

// follow has set called with each object of a kind that is there or changes, and gone with each that went.
func follow[T client.Object](ctx context.Context, w *watches, c cache.Cache, kind T, set, gone func(T)) error {
	informer, err := c.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	r, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { set(o.(T)) },
		UpdateFunc: func(_, o any) { set(o.(T)) },
		DeleteFunc: func(o any) {
			if t, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = t.Obj
			}
			gone(o.(T))
		},
	})
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	w.list = append(w.list, r)
	return nil
}
