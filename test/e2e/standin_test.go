//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// A standIn does what a node's agent does for one group: it says that there are members, and tells what
// the gateway says of itself.
type standIn struct {
	group, node string
	stop        context.CancelFunc
	done        chan struct{}
}

// join makes the group have members on the node.
func join(t *testing.T, name, node string, members int32) *standIn {
	t.Helper()
	ctx := within(t, time.Minute)
	g, err := group(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	egw := &v1alpha1.EgressGateway{ObjectMeta: metav1.ObjectMeta{
		Name: v1alpha1.GatewayName(name, node), Namespace: stage.Namespace,
		Labels: ofGroup(name), Finalizers: []string{v1alpha1.FinalizerDevice},
	}, Spec: v1alpha1.EgressGatewaySpec{Group: name, Node: node}}
	if err := controllerutil.SetOwnerReference(g, egw, s.Client.Scheme()); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Create(ctx, egw); err != nil {
		t.Fatal(err)
	}
	a := &standIn{group: name, node: node, done: make(chan struct{})}
	var run context.Context
	run, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	t.Cleanup(func() { a.stop(); <-a.done })
	go a.report(run, t.Logf, members)
	return a
}

// leave takes the group's last member off the node.
func (a *standIn) leave(t *testing.T) {
	t.Helper()
	egw := &v1alpha1.EgressGateway{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.GatewayName(a.group, a.node), Namespace: stage.Namespace}}
	if err := s.Client.Delete(within(t, time.Minute), egw); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
}

// socket is the gateway's, seen from outside of the node.
func socket(ctx context.Context, group, node string) (string, error) {
	n, err := s.Lab.Node(node)
	if err != nil {
		return "", err
	}
	pid, err := n.PID(ctx)
	return fmt.Sprintf("/proc/%d/root/run/tailgate/gateways/%s/snapshot.sock", pid, v1alpha1.GroupObjectName(group)), err
}

// report writes each snapshot into the EgressGateway's status, and sets the sysctls that a gateway cannot.
func (a *standIn) report(ctx context.Context, logf func(string, ...any), members int32) {
	defer close(a.done)
	var prepared types.UID
	follow(ctx, a.group, a.node, func(sn snapshot.Snapshot) bool {
		if uid, err := a.prepare(ctx, prepared); err != nil && ctx.Err() == nil {
			logf("prepare gateway of %s on %s: %v", a.group, a.node, err)
		} else {
			prepared = uid
		}
		if err := a.write(ctx, sn, members); err != nil && ctx.Err() == nil && client.IgnoreNotFound(err) != nil {
			logf("report on %s on %s: %v", a.group, a.node, err)
		}
		return true
	})
}

// follow calls fn with each snapshot until it returns false or ctx ends; gateways come and go meanwhile.
func follow(ctx context.Context, group, node string, fn func(snapshot.Snapshot) bool) {
	again := time.NewTicker(50 * time.Millisecond) // a socket in another mount namespace gives no event
	defer again.Stop()
	for {
		path, err := socket(ctx, group, node)
		if err == nil {
			err = snapshot.Watch(ctx, path, fn)
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// prepare enters the namespace of a gateway pod that is another than the one before.
func (a *standIn) prepare(ctx context.Context, before types.UID) (types.UID, error) {
	pods, err := gatewayPods(ctx, a.group)
	pod, ok := pods[a.node]
	if err != nil || !ok || pod.UID == before {
		return before, err
	}
	n, err := s.Lab.Node(a.node)
	if err != nil {
		return before, err
	}
	pid, err := n.PID(ctx)
	if err != nil {
		return before, err
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	store, err := attachments.New(attachments.Options{Dir: root + "/var/lib/cni/results", HostRoot: root})
	if err != nil {
		return before, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- store.Run(run) }()
	select {
	case <-store.Synced():
	case err := <-done:
		return before, err
	}
	ns, _, err := store.Open(pod.UID)
	if err != nil {
		return before, err
	}
	defer ns.Close()
	target, err := joiner.NewTarget(ns)
	if err != nil {
		return before, err
	}
	target.Close()
	return pod.UID, nil
}

func (a *standIn) write(ctx context.Context, sn snapshot.Snapshot, members int32) error {
	egw := new(v1alpha1.EgressGateway)
	key := client.ObjectKey{Namespace: stage.Namespace, Name: v1alpha1.GatewayName(a.group, a.node)}
	if err := s.Client.Get(ctx, key, egw); err != nil {
		return err
	}
	before := egw.DeepCopy()
	st := &egw.Status
	st.BackendState, st.Members, st.ConfigHash, st.Version = sn.BackendState, members, sn.Config.Hash, sn.Version
	if sn.DeviceID != "" {
		st.DeviceID, st.Tags = sn.DeviceID, sn.Tags
	}
	st.Addresses = nil
	for _, addr := range sn.Addrs {
		st.Addresses = append(st.Addresses, addr.String())
	}
	st.ExitNode = nil
	if e := sn.ExitNode; e.Wanted != "" {
		st.ExitNode = &v1alpha1.GatewayExitNode{Wanted: e.Wanted, ID: e.ID, Name: e.Name, Online: e.Online, Message: e.Message}
	}
	condition := func(kind string, good bool, no string) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind}
		if !good {
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Not"+kind, no
		}
		meta.SetStatusCondition(&st.Conditions, c)
	}
	condition(v1alpha1.ConditionReady, sn.Ready, fmt.Sprint(sn.Problems))
	condition(v1alpha1.ConditionAuthKeyAccepted, !sn.AuthKeyRefused, "the tailnet refused the auth key")
	condition(v1alpha1.ConditionConfigApplied, sn.Config.Error == "", sn.Config.Error)
	return s.Client.Status().Patch(ctx, egw, client.MergeFrom(before))
}

// awaitSnapshot waits until the gateway says what is wanted, and returns that and how long it took.
func awaitSnapshot(t *testing.T, name, node, what string, limit time.Duration, good func(snapshot.Snapshot) bool) (snapshot.Snapshot, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	var last snapshot.Snapshot
	found := false
	follow(ctx, name, node, func(sn snapshot.Snapshot) bool {
		last, found = sn, good(sn)
		return !found
	})
	if !found {
		t.Fatalf("%s: not within %v; the gateway says %+v", what, limit, last)
	}
	return last, time.Since(began)
}

// podOfN1 returns the gateway pod of the group on n1.
func podOfN1(t *testing.T, name string) corev1.Pod {
	t.Helper()
	pods, err := gatewayPods(within(t, time.Minute), name)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := pods[n1]
	if !ok {
		t.Fatalf("%s has no gateway pod on %s", name, n1)
	}
	return p
}
