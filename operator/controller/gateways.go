package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// gateways reconciles EgressGateways: each has one device in the tailnet, which goes when it goes.
type gateways struct {
	*shared
	tagged *tagged
}

// Reconcile keeps or removes one EgressGateway.
func (r *gateways) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	gw := &v1alpha1.EgressGateway{}
	if err := r.client.Get(ctx, req.NamespacedName, gw); err != nil {
		r.cleanups.clear(req.NamespacedName)
		r.tagged.forget(req.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	var wait time.Duration
	var err error
	if deleting(gw) {
		wait, err = r.remove(ctx, req.NamespacedName)
	} else {
		wait, err = r.keep(ctx, gw)
	}
	return result(ctx, wait, err)
}

// keep looks after a gateway that stays, and deletes one that has no group or no node any more.
func (r *gateways) keep(ctx context.Context, gw *v1alpha1.EgressGateway) (time.Duration, error) {
	// Its agent put it there; one that is missing would leave a device behind.
	if err := r.addFinalizer(ctx, gw, v1alpha1.FinalizerDevice); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	group := &v1alpha1.EgressGroup{}
	switch gone, err := r.gone(ctx, client.ObjectKey{Name: gw.Spec.Group}, group); {
	case err != nil:
		return 0, err
	case gone:
		return 0, r.discard(ctx, gw, ReasonGroupGone, "EgressGroup "+gw.Spec.Group+" is gone")
	}
	switch gone, err := r.gone(ctx, client.ObjectKey{Name: gw.Spec.Node}, nodeMetadata()); {
	case err != nil:
		return 0, err
	case gone:
		return 0, r.discard(ctx, gw, ReasonNodeGone, "Node "+gw.Spec.Node+" is gone")
	}
	if deleting(group) {
		return 0, nil // the group deletes it in its turn
	}
	return r.setTags(ctx, gw, group)
}

// nodeMetadata returns an empty node of the form that the cache holds.
func nodeMetadata() *metav1.PartialObjectMetadata {
	node := &metav1.PartialObjectMetadata{}
	node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	return node
}

// gone reads an object into o and reports whether there is none: neither in the cache nor on the server, which
// may know of one that is new.
func (s *shared) gone(ctx context.Context, name client.ObjectKey, o client.Object) (bool, error) {
	err := s.client.Get(ctx, name, o)
	if apierrors.IsNotFound(err) {
		err = s.live.Get(ctx, name, o)
	}
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name.Name, err)
	}
	return false, nil
}

// discard deletes an EgressGateway that has lost what it is for.
func (r *gateways) discard(ctx context.Context, gw *v1alpha1.EgressGateway, reason, why string) error {
	if err := r.deleteExactly(ctx, gw); err != nil {
		return err
	}
	r.event(gw, corev1.EventTypeNormal, reason, "Delete", "%s, so its gateway and its tailnet device go", why)
	return nil
}

// remove deletes the device of a gateway that is being deleted, once the gateway cannot register it anew.
func (r *gateways) remove(ctx context.Context, name types.NamespacedName) (time.Duration, error) {
	gw := &v1alpha1.EgressGateway{}
	if err := r.live.Get(ctx, name, gw); err != nil { // its device may be known only now
		return 0, client.IgnoreNotFound(err)
	}
	if !deleting(gw) || !controllerutil.ContainsFinalizer(gw, v1alpha1.FinalizerDevice) {
		return 0, nil
	}
	held, stays, err := r.runs(ctx, gw)
	if err != nil {
		return 0, err
	}
	if stays {
		r.event(gw, corev1.EventTypeNormal, ReasonGatewayStays, "Keep", "the gateway runs on, as one does on every node, so its device stays")
		return 0, r.release(ctx, gw)
	}
	late := r.overdue(gw)
	if held && !late {
		return r.poll(gw), nil
	}
	if err := r.deleteDevice(ctx, gw); err != nil {
		if !late {
			r.cleanups.note(name, fmt.Sprintf("device %s of node %s is not deleted yet: %s", gw.Status.DeviceID, gw.Spec.Node, err))
			var wrong *credentialsError
			if errors.As(err, &wrong) {
				return cleanupPoll, nil // the Secret is watched, and the timeout is to be noticed
			}
			return cleanupPoll, err
		}
		log.FromContext(ctx).Error(err, "a device stays in the tailnet; delete it by hand", "device", gw.Status.DeviceID, "node", gw.Spec.Node)
		r.Metrics.device(ReasonDeviceAbandoned)
		r.event(gw, corev1.EventTypeWarning, ReasonDeviceAbandoned, "GiveUp", "device %s of node %s could not be deleted within %v; delete it in the tailnet's admin console: %s",
			gw.Status.DeviceID, gw.Spec.Node, r.CleanupTimeout, limit(err.Error(), maxMessage/2))
	} else if held {
		r.event(gw, corev1.EventTypeWarning, ReasonPodsRemain, "GiveUp", "the gateway pod on node %s did not end within %v; its device is deleted all the same, and the gateway may register another if the node comes back", gw.Spec.Node, r.CleanupTimeout)
	}
	return 0, r.release(ctx, gw)
}

// runs reports whether a gateway pod is, or may yet be started, on the node; and whether that is
// as it should be, because gateways run on every node.
func (r *gateways) runs(ctx context.Context, gw *v1alpha1.EgressGateway) (held, stays bool, err error) {
	node := nodeMetadata()
	err = r.live.Get(ctx, client.ObjectKey{Name: gw.Spec.Node}, node)
	if client.IgnoreNotFound(err) != nil {
		return false, false, fmt.Errorf("look for Node %s: %w", gw.Spec.Node, err)
	}
	if err == nil {
		group := &v1alpha1.EgressGroup{}
		gone, err := r.gone(ctx, client.ObjectKey{Name: gw.Spec.Group}, group)
		if err != nil {
			return false, false, err
		}
		if !gone && !deleting(group) && runsEverywhere(group) {
			return false, true, nil
		}
		if _, labelled := node.Labels[v1alpha1.NodeLabel(gw.Spec.Group)]; labelled {
			return true, false, nil
		}
	}
	held, err = r.podsRun(ctx, gw.Spec.Group, gw.Spec.Node)
	return held, false, err
}

// release lets an EgressGateway go.
func (r *gateways) release(ctx context.Context, gw *v1alpha1.EgressGateway) error {
	if err := r.dropFinalizer(ctx, gw, v1alpha1.FinalizerDevice); err != nil {
		return err
	}
	r.cleanups.clear(client.ObjectKeyFromObject(gw))
	return nil
}
