//go:build linux

package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// TestPermissions does all that an agent does and compares what it asked for with what it may. (That it may do what it needs
// shows in every test: agents run with these permissions.)
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	r := &kubetest.Recorder{Namespace: w.ns, Named: []string{"daemonsets"}}
	w.wrap = r.Wrap
	w.create(daemonSet(w.ns))
	older := w.group("older")
	space := w.env.Namespace()
	s := w.pod(space, "web", map[string]string{"egress": w.ns})
	a := w.agent(func(o *Options) { o.JoinWait = time.Millisecond }).ready()
	// As if the watch had told neither of the pod nor of its namespace.
	a.namespaceGone(metadataOf(space))
	a.podGone(s.Pod)
	if reply, err := w.add(s); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	w.event(s, ReasonWaiting)
	// A report of a conflict becomes one of a gateway. (The group comes now, for what is forgotten above would take its report away.)
	g := w.group("payments")
	w.report(g, "conflict", func(e *v1alpha1.EgressGateway) bool { return !isActive(e) })
	if err := w.client.Delete(w.ctx(), older); err != nil {
		t.Fatal(err)
	}
	w.gateway(g, running())
	w.report(g, "ready", func(e *v1alpha1.EgressGateway) bool { return truth(e, v1alpha1.ConditionReady) == "True Ready" })
	w.event(s, ReasonJoined)
	// The same event once more is a patch.
	p := a.byRuntime[s.UID].ref
	for range 2 {
		a.event(p, "Normal", ReasonJoined, "Join", "once more")
	}
	w.repeated(s)
	w.forget(s)
	w.noReport(g)
	a.stop()
	if diff := cmp.Diff(kubetest.Granted(t, ClusterPermissions(), NamespacePermissions()), r.Needed()); diff != "" {
		t.Errorf("permissions (-granted +needed):\n%s", diff)
	}
}
