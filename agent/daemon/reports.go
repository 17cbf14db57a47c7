package daemon

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// reports keeps the EgressGateways of this node: one for each group that has members here, or something to tell.
type reports struct {
	d     *Daemon
	queue workqueue.TypedRateLimitingInterface[string]

	// began is when run did. What is known then is not all that will be in a moment, and an agent that starts is no
	// reason to write a report that says less.
	began time.Time

	mu sync.Mutex
	// wrote is when a group's report was written last.
	wrote map[string]time.Time
	// left is when the last member of a group left, whose gateway stays for a while.
	left map[string]time.Time
}

// reportPause is how far apart two reports of one group are at least: a rollout changes a group a hundred times a second, and
// nobody needs to read each.
const reportPause = 500 * time.Millisecond

func newReports(d *Daemon) *reports {
	return &reports{
		d: d, wrote: map[string]time.Time{}, left: map[string]time.Time{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, time.Minute)),
	}
}

// add has a group's report looked at. It never blocks.
func (r *reports) add(group string) { r.queue.Add(group) }

// heard has the report looked at that an object is.
func (r *reports) heard(g *v1alpha1.EgressGateway) { r.add(g.Spec.Group) }

// run works until ctx ends.
func (r *reports) run(ctx context.Context) {
	r.began = time.Now()
	stop := context.AfterFunc(ctx, r.queue.ShutDown)
	defer stop()
	for {
		group, ended := r.queue.Get()
		if ended {
			return
		}
		again, err := r.report(ctx, group)
		r.queue.Done(group)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.d.log.Warn("a group's report could not be written; it is tried again", "group", group, "err", err)
			r.queue.AddRateLimited(group)
		case again > 0:
			r.queue.Forget(group)
			r.queue.AddAfter(group, again)
		default:
			r.queue.Forget(group)
		}
	}
}

// report brings a group's EgressGateway up to date, and returns when to look again; 0: when there is news.
func (r *reports) report(ctx context.Context, group string) (again time.Duration, err error) {
	have := &v1alpha1.EgressGateway{}
	key := client.ObjectKey{Namespace: r.d.o.Namespace, Name: v1alpha1.GatewayName(group, r.d.o.Node)}
	if err := r.d.cache.Get(ctx, key, have); apierrors.IsNotFound(err) {
		have = nil
	} else if err != nil {
		return 0, fmt.Errorf("read EgressGateway %s: %w", key.Name, err)
	}
	f := r.d.facts(group)
	active, lingers := r.active(f, have)
	if have != nil && !have.DeletionTimestamp.IsZero() {
		// Its end is heard.
		return 0, r.identify(ctx, have, f)
	}
	switch {
	case f.group == nil || !active && len(f.conflicts) == 0:
		return lingers, r.remove(ctx, have)
	case have != nil && !owned(have, f.group):
		// It has to go first; its end is heard.
		return 0, r.remove(ctx, have)
	case have != nil && isActive(have) && !active:
		// With it goes the gateway's device. What there still is to tell is in the one that is made then.
		return 0, r.remove(ctx, have)
	case have == nil:
		return lingers, r.create(ctx, key, f, active)
	}
	if wait := r.pause(group); wait > 0 && active == isActive(have) {
		return wait, nil
	}
	wrote, err := r.update(ctx, have, f, active)
	if wrote {
		r.note(group)
	}
	return lingers, err
}

// active reports whether a gateway is to run, and for how long at the most if that is only for the sake of members
// that may come back.
func (r *reports) active(f facts, have *v1alpha1.EgressGateway) (active bool, lingers time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.members > 0 || f.group == nil {
		delete(r.left, f.name)
		return f.members > 0, 0
	}
	if have == nil || !isActive(have) {
		return false, 0
	}
	since, ok := r.left[f.name]
	if !ok {
		since = time.Now()
		r.left[f.name] = since
	}
	if lingers = time.Until(since.Add(r.d.o.GatewayLinger)); lingers > 0 {
		return true, lingers
	}
	delete(r.left, f.name)
	return false, 0
}

func isActive(g *v1alpha1.EgressGateway) bool { return g.Spec.Active == nil || *g.Spec.Active }

// owned reports whether g is of that group, and not of another that had its name.
func owned(g *v1alpha1.EgressGateway, group *v1alpha1.EgressGroup) bool {
	for _, o := range g.OwnerReferences {
		if o.UID == group.UID {
			return true
		}
	}
	return false
}

func (r *reports) pause(group string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.wrote[group]
	if last.Before(r.began) {
		last = r.began
	}
	return time.Until(last.Add(reportPause))
}

func (r *reports) note(group string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrote[group] = time.Now()
}

// identify writes which device is the gateway's into an EgressGateway that is being deleted: the gateway may have logged in
// only now, and the operator deletes the device that it is told of.
func (r *reports) identify(ctx context.Context, have *v1alpha1.EgressGateway, f facts) error {
	if f.snapshot == nil || f.snapshot.DeviceID == "" || f.snapshot.DeviceID == have.Status.DeviceID {
		return nil
	}
	want := have.DeepCopy()
	want.Status.DeviceID = f.snapshot.DeviceID
	if err := r.d.live.Status().Patch(ctx, want, client.MergeFrom(have), client.FieldOwner(FieldManager)); err != nil {
		return lost(have, err)
	}
	return nil
}

func (r *reports) remove(ctx context.Context, have *v1alpha1.EgressGateway) error {
	if have == nil {
		return nil
	}
	err := r.d.live.Delete(ctx, have, client.Preconditions{UID: &have.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // what is there now is heard
	}
	if err != nil {
		return fmt.Errorf("delete EgressGateway %s: %w", have.Name, err)
	}
	r.d.log.Info("the group has no member here any more", "group", have.Spec.Group, "egressGateway", have.Name)
	return nil
}

func (r *reports) create(ctx context.Context, key client.ObjectKey, f facts, active bool) error {
	g := &v1alpha1.EgressGateway{
		ObjectMeta: metav1.ObjectMeta{
			Name: key.Name, Namespace: key.Namespace,
			Labels:     map[string]string{v1alpha1.LabelGroup: v1alpha1.GroupKey(f.name)},
			Finalizers: []string{v1alpha1.FinalizerDevice},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "EgressGroup", Name: f.name, UID: f.group.UID,
			}},
		},
		Spec: v1alpha1.EgressGatewaySpec{Group: f.name, Node: r.d.o.Node, Active: &active},
	}
	err := r.d.live.Create(ctx, g, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		return nil // the watch is late
	}
	if err != nil {
		return fmt.Errorf("create EgressGateway %s: %w", key.Name, err)
	}
	r.d.log.Info("the group has a first member here", "group", f.name, "egressGateway", g.Name, "members", f.members)
	return nil
}

// update writes what differs.
func (r *reports) update(ctx context.Context, have *v1alpha1.EgressGateway, f facts, active bool) (wrote bool, err error) {
	if isActive(have) != active {
		want := have.DeepCopy()
		want.Spec.Active = &active
		if err := r.d.live.Patch(ctx, want, client.MergeFrom(have), client.FieldOwner(FieldManager)); err != nil {
			return false, lost(have, err)
		}
		wrote = true
	}
	want := have.DeepCopy()
	want.Status = status(f, have.Status, have.Generation, time.Now())
	if reflect.DeepEqual(want.Status, have.Status) {
		return wrote, nil
	}
	if err := r.d.live.Status().Patch(ctx, want, client.MergeFrom(have), client.FieldOwner(FieldManager)); err != nil {
		return wrote, lost(have, err)
	}
	return true, nil
}

// lost is nil for an object that is gone, whose end is heard.
func lost(g *v1alpha1.EgressGateway, err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("write EgressGateway %s: %w", g.Name, err)
}
