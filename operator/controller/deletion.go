package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// cleanupPoll is how often a group looks what holds the cleanup of one of its gateways.
const cleanupPoll = 2 * time.Second

// poll returns when to look again for what ends with an object that is being deleted, such as pods, which are not
// watched: soon at first, and less often the longer it takes already.
func (s *shared) poll(o metav1.Object) time.Duration {
	return min(max(s.Clock.Since(o.GetDeletionTimestamp().Time)/10, time.Second), 30*time.Second)
}

// remove takes a group away. A gateway that still runs would register a new device when its own
// is deleted, hence the order; and the Secret goes after its keys are revoked, since it says which
// they are. Labels of nodes go meanwhile: each EgressGateway waits for its node's. What is read is read from
// the server: the cache may not show yet what was made last.
func (r *groupRun) remove(ctx context.Context) (time.Duration, error) {
	if !controllerutil.ContainsFinalizer(r.group, v1alpha1.FinalizerGroup) {
		return 0, nil
	}
	for _, step := range []func(context.Context) (waitsFor string, err error){
		r.removeDaemonSet,
		r.awaitPods,
		r.revokeAll,
		r.removeGateways,
		r.removeObjects,
	} {
		waitsFor, err := step(ctx)
		if err == nil && waitsFor == "" {
			continue
		}
		if err != nil {
			waitsFor = err.Error()
		}
		r.set(v1alpha1.ConditionReady, metav1.ConditionFalse, ReasonDeleting, "the group is being deleted: %s", waitsFor)
		return r.poll(r.group), errors.Join(err, r.patchStatus(ctx))
	}
	r.timers.forget(r.group.Name)
	r.told.forget(r.group)
	return 0, r.dropFinalizer(ctx, r.group, v1alpha1.FinalizerGroup)
}

// overdue reports whether an object has been deleting for so long that what does not answer is left alone.
func (s *shared) overdue(o metav1.Object) bool {
	t := o.GetDeletionTimestamp()
	return t != nil && s.Clock.Since(t.Time) >= s.CleanupTimeout
}

func (r *groupRun) removeDaemonSet(ctx context.Context) (string, error) {
	gone, err := r.removeObject(ctx, &appsv1.DaemonSet{}, client.PropagationPolicy(metav1.DeletePropagationForeground))
	if err != nil || gone || r.overdue(r.group) {
		return "", err
	}
	return "it waits for the gateways' DaemonSet to be gone", nil
}

func (r *groupRun) awaitPods(ctx context.Context) (string, error) {
	running, err := r.podsRun(ctx, r.group.Name, "")
	switch {
	case err != nil || !running:
		return "", err
	case !r.overdue(r.group):
		return "it waits for gateway pods to end", nil
	}
	if r.told.first(r.group, ReasonPodsRemain) {
		r.event(r.group, corev1.EventTypeWarning, ReasonPodsRemain, "GiveUp",
			"gateway pods did not end within %v; the group is deleted all the same. Should their node come back, look for devices tagged %v that remain in the tailnet", r.CleanupTimeout, render.Tags(r.group))
	}
	return "", nil
}

// podsRun reports whether gateway pods of a group run, on one node or, for "", on any.
func (s *shared) podsRun(ctx context.Context, group, node string) (bool, error) {
	which := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	if node != "" {
		which = fields.AndSelectors(which, fields.OneTermEqualSelector("spec.nodeName", node))
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := s.live.List(ctx, pods, client.InNamespace(s.Render.Namespace), client.MatchingLabels(render.PodLabels(group)),
		client.MatchingFieldsSelector{Selector: which}, client.Limit(1))
	if err != nil {
		return false, fmt.Errorf("look for gateway pods of EgressGroup %s: %w", group, err)
	}
	return len(pods.Items) > 0, nil
}

// revokeAll revokes every key that the group has.
func (r *groupRun) revokeAll(ctx context.Context) (string, error) {
	key, err := r.readKey(ctx, r.live, r.group.Name)
	if err != nil {
		return "", err
	}
	ids := []string{}
	for _, old := range key.Retired {
		ids = append(ids, old.ID)
	}
	if key.ID != "" {
		ids = append(ids, key.ID)
	}
	if len(ids) == 0 {
		return "", nil
	}
	account, err := r.creds.get(ctx)
	for _, id := range ids {
		if err == nil {
			err = account.RevokeKey(ctx, id)
		}
	}
	var wrong *credentialsError
	switch {
	case err == nil:
		for range ids {
			r.Metrics.keyRevoked()
		}
	case r.overdue(r.group):
		if r.told.first(r.group, ReasonKeyAbandoned) {
			log.FromContext(ctx).Error(err, "auth keys are not revoked, and expire by themselves", "keys", ids, "expires", key.Expires)
			r.event(r.group, corev1.EventTypeWarning, ReasonKeyAbandoned, "GiveUp",
				"auth keys %v could not be revoked within %v; revoke them in the tailnet's admin console, or let them expire: %s", ids, r.CleanupTimeout, limit(err.Error(), maxMessage))
		}
	case errors.As(err, &wrong):
		return "its auth keys cannot be revoked: " + err.Error(), nil // the Secret is watched
	default:
		return "", fmt.Errorf("revoke the auth keys of EgressGroup %s: %w", r.group.Name, err)
	}
	return "", nil
}

// removeGateways deletes the EgressGateways, and waits until their devices are, too.
func (r *groupRun) removeGateways(ctx context.Context) (string, error) {
	list := &v1alpha1.EgressGatewayList{}
	err := r.live.List(ctx, list, client.InNamespace(r.Render.Namespace), client.MatchingFields{byGroup: r.group.Name})
	if err != nil {
		return "", fmt.Errorf("list EgressGateways of EgressGroup %s: %w", r.group.Name, err)
	}
	for i := range list.Items {
		if err := r.deleteExactly(ctx, &list.Items[i]); err != nil {
			return "", err
		}
	}
	if len(list.Items) == 0 {
		return "", nil
	}
	if late := r.cleanups.late(list.Items); late != "" {
		return late, nil
	}
	return fmt.Sprintf("it waits for %d devices to be deleted from the tailnet", len(list.Items)), nil
}

// removeObjects deletes what else was made for the group. The garbage collector would, but later
// than the group is gone.
func (r *groupRun) removeObjects(ctx context.Context) (string, error) {
	for _, o := range []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}, &corev1.ServiceAccount{}} {
		if _, err := r.removeObject(ctx, o); err != nil {
			return "", err
		}
	}
	return "", nil
}

// removeObject deletes the object of that kind that was made for the group, and reports whether it is gone.
func (r *groupRun) removeObject(ctx context.Context, kind client.Object, opts ...client.DeleteOption) (gone bool, err error) {
	gvk, err := r.client.GroupVersionKindFor(kind)
	if err != nil {
		return false, err
	}
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(gvk)
	name := client.ObjectKey{Namespace: r.Render.Namespace, Name: v1alpha1.GroupObjectName(r.group.Name)}
	if err := r.live.Get(ctx, name, o); err != nil {
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, fmt.Errorf("look for %s %s: %w", gvk.Kind, name, err)
	}
	if o.Labels[v1alpha1.LabelGroup] != v1alpha1.GroupKey(r.group.Name) && !metav1.IsControlledBy(o, r.group) {
		return true, nil // somebody else's of the same name
	}
	return false, r.deleteExactly(ctx, o, opts...)
}

// deleteExactly deletes an object unless that is under way; never another of the same name.
func (s *shared) deleteExactly(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	if deleting(o) {
		return nil
	}
	uid := o.GetUID()
	opts = append(opts, client.Preconditions{UID: &uid})
	if err := s.client.Delete(ctx, o, opts...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s %s: %w", kindOf(o), o.GetName(), err)
	}
	return nil
}
