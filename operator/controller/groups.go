package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// groups reconciles EgressGroups.
type groups struct {
	*shared
	timers *timers
	told   *told
}

// groupRun is one reconcile of one group.
type groupRun struct {
	*groups
	group    *v1alpha1.EgressGroup // its status is what it will be
	before   *v1alpha1.EgressGroup // as it was
	gateways []v1alpha1.EgressGateway
	daemons  *appsv1.DaemonSet // as the cache has it; empty when it does not
	// failed is why gateways are not as the spec wants them, or nil.
	failed error
}

// Reconcile brings one group to what its spec says. Steps go on when one before them failed, so that
// a tailnet API that is down does not keep the configuration from changing.
func (r *groups) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	run := &groupRun{groups: r, group: &v1alpha1.EgressGroup{}, daemons: &appsv1.DaemonSet{}}
	if err := r.client.Get(ctx, req.NamespacedName, run.group); err != nil {
		r.timers.forget(req.Name)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if deleting(run.group) {
		run.before = run.group.DeepCopy()
		wait, err := run.remove(ctx)
		return result(ctx, wait, err)
	}
	if err := r.addFinalizer(ctx, run.group, v1alpha1.FinalizerGroup); err != nil {
		return result(ctx, 0, client.IgnoreNotFound(err))
	}
	run.before = run.group.DeepCopy()
	if err := run.load(ctx); err != nil {
		return reconcile.Result{}, err
	}
	wait, err := run.steps(ctx)
	return result(ctx, wait, errors.Join(err, run.patchStatus(ctx)))
}

// steps does all steps, in order. Each returns when to come again, 0: when something changes.
func (r *groupRun) steps(ctx context.Context) (wait time.Duration, err error) {
	for _, step := range []func(context.Context) (time.Duration, error){
		r.authKey,
		r.config,
		r.serviceAccount,
		r.daemonSet,
		r.status,
	} {
		w, e := step(ctx)
		wait, err = sooner(wait, w), errors.Join(err, e)
	}
	return wait, err
}

// load reads the group's gateways, in the order of their nodes.
func (r *groupRun) load(ctx context.Context) (err error) {
	r.gateways, err = r.listGateways(ctx, client.MatchingFields{byGroup: r.group.Name})
	slices.SortFunc(r.gateways, func(a, b v1alpha1.EgressGateway) int { return strings.Compare(a.Spec.Node, b.Spec.Node) })
	return err
}

// set sets a condition of the group.
func (r *groupRun) set(kind string, status metav1.ConditionStatus, reason, format string, args ...any) {
	meta.SetStatusCondition(&r.group.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: limit(fmt.Sprintf(format, args...), maxMessage),
		ObservedGeneration: r.group.Generation,
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
	})
}

// maxMessage is well below what a condition (32768) and an event (1024) take: people read it.
const maxMessage = 900

// limit cuts a text that is longer than so many bytes.
func limit(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// patchStatus writes the status if it differs, and tells of conditions that changed.
func (r *groupRun) patchStatus(ctx context.Context) error {
	r.group.Status.ObservedGeneration = r.group.Generation
	status := r.group.Status.DeepCopy()
	if equality.Semantic.DeepEqual(r.before.Status, *status) {
		return nil
	}
	if err := r.client.Status().Patch(ctx, r.group, client.MergeFrom(r.before)); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		return fmt.Errorf("write the status of EgressGroup %s: %w", r.before.Name, err)
	}
	r.tell(r.before.Status.Conditions, status.Conditions)
	return nil
}

// addFinalizer puts a finalizer on an object unless it is there.
func (s *shared) addFinalizer(ctx context.Context, o client.Object, name string) error {
	if controllerutil.ContainsFinalizer(o, name) {
		return nil
	}
	before := o.DeepCopyObject().(client.Object)
	controllerutil.AddFinalizer(o, name)
	return s.patchFinalizers(ctx, o, before)
}

// dropFinalizer takes a finalizer off; when it was the last, the object is gone.
func (s *shared) dropFinalizer(ctx context.Context, o client.Object, name string) error {
	before := o.DeepCopyObject().(client.Object)
	if !controllerutil.RemoveFinalizer(o, name) {
		return nil
	}
	return client.IgnoreNotFound(s.patchFinalizers(ctx, o, before))
}

// patchFinalizers writes the whole list, and only if nobody else wrote meanwhile.
func (s *shared) patchFinalizers(ctx context.Context, o, before client.Object) error {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := s.client.Patch(ctx, o, patch); err != nil {
		return fmt.Errorf("write the finalizers of %s %s: %w", kindOf(o), o.GetName(), err)
	}
	return nil
}
