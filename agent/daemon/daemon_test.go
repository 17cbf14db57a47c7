//go:build linux

package daemon

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

func isJoined(state string) bool { return strings.Contains(state, "ts0") }

// closed: what keeps it in is there, and no link.
func isClosed(state string) bool {
	return !strings.Contains(state, "ts0") && strings.Contains(state, "unreachable 100.64.0.0/10") && strings.Contains(state, "table inet tailgate")
}

func truth(c *v1alpha1.EgressGateway, kind string) string {
	if c := meta.FindStatusCondition(c.Status.Conditions, kind); c != nil {
		return string(c.Status) + " " + c.Reason
	}
	return "none"
}

// TestAdd: a member has its link when ADD returns; another pod is not touched. What is written says so.
func TestAdd(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments")
	gw := w.gateway(g, running("10.7.0.0/16"))
	w.agent().ready()
	s := w.member("web")
	reply, err := w.add(s)
	if err != nil || !reply.Member {
		t.Fatalf("ADD of a member: %+v, %v", reply, err)
	}
	if state := inside(t, s.ns); !isJoined(state) {
		t.Errorf("after ADD there is\n%s", state)
	}
	if out := run(t, gw.ns, "ip -o link"); !strings.Contains(out, "tg1") {
		t.Errorf("the gateway has the links\n%s", out)
	}
	other := w.pod(w.ns, "other", nil)
	if reply, err = w.add(other); err != nil || reply.Member {
		t.Errorf("ADD of no member: %+v, %v", reply, err)
	}
	if state := inside(t, other.ns); state != "" {
		t.Errorf("in a pod that is no member there is\n%s", state)
	}
	if note := w.event(s, ReasonJoined); !strings.Contains(note, g.Name) {
		t.Errorf("the event says %q", note)
	}
	egw := w.report(g, "ready", func(e *v1alpha1.EgressGateway) bool {
		return e.Status.Members == 1 && truth(e, v1alpha1.ConditionReady) == "True Ready"
	})
	if egw.Status.DeviceID != "nDEV" || fmt.Sprint(egw.Status.Tags, egw.Status.Addresses) != "[tag:a tag:b] [100.64.0.9]" || !isActive(egw) || !owned(egw, g) ||
		truth(egw, v1alpha1.ConditionAuthKeyAccepted) != "True KeyAccepted" || truth(egw, v1alpha1.ConditionRoutesSteered) != "True Steered" {
		t.Errorf("report %+v", egw)
	}
	if reply, err = w.call(cnirpc.Check, s, patience); err != nil || !reply.Member {
		t.Errorf("CHECK: %+v, %v", reply, err)
	}
	if _, err := w.call(cnirpc.Del, s, patience); err != nil {
		t.Errorf("DEL: %v", err)
	}
	w.changed("left by DEL", s.ns, func(state string) bool { return state == "" })
	w.forget(s)
	w.noReport(g)
}

// TestLive: labels on a pod and on its namespace make it join and leave, and so does its group's end.
func TestLive(t *testing.T) {
	w := newWorld(t)
	space := w.env.Namespace()
	g := w.group("payments", func(s *v1alpha1.EgressGroupSpec) {
		s.Selector.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "paid"}}
	})
	w.gateway(g, running())
	w.agent().ready()
	s := w.pod(space, "web", nil)
	if reply, err := w.add(s); err != nil || reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	label := func(o client.Object, key, value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
		if err := w.client.Patch(w.ctx(), o, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}}
	label(s.Pod, "egress", `"`+w.ns+`"`)
	began := time.Now()
	label(ns, "tier", `"paid"`)
	w.changed("joined by labels", s.ns, isJoined)
	t.Logf("joined %v after the label", time.Since(began))
	w.event(s, ReasonJoined)
	label(s.Pod, "egress", "null")
	w.changed("left by label", s.ns, func(state string) bool { return state == "" })
	w.event(s, ReasonLeft)
	label(s.Pod, "egress", `"`+w.ns+`"`)
	w.changed("joined again", s.ns, isJoined)
	if err := w.client.Delete(w.ctx(), g); err != nil {
		t.Fatal(err)
	}
	w.changed("left with the group", s.ns, func(state string) bool { return state == "" })
}

// TestGatewayLate: a member's start waits for its gateway only so long, and it is kept in meanwhile. Then it joins by itself.
func TestGatewayLate(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments")
	w.agent(func(o *Options) { o.JoinWait = 50 * time.Millisecond }).ready()
	s := w.member("web")
	reply, err := w.add(s)
	if err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	if state := inside(t, s.ns); !isClosed(state) {
		t.Errorf("without a gateway there is\n%s", state)
	}
	w.event(s, ReasonWaiting)
	w.report(g, "active, absent", func(e *v1alpha1.EgressGateway) bool {
		return isActive(e) && truth(e, v1alpha1.ConditionReady) == "False GatewayAbsent"
	})
	gw := w.gateway(g, nil)
	w.report(g, "silent", func(e *v1alpha1.EgressGateway) bool {
		return truth(e, v1alpha1.ConditionReady) == "False GatewaySilent"
	})
	gw.serve()
	gw.says(*running())
	w.changed("joined", s.ns, isJoined)
	w.report(g, "ready", func(e *v1alpha1.EgressGateway) bool { return truth(e, v1alpha1.ConditionReady) == "True Ready" })
}

// TestRestart: an agent that starts finds all as it was, and changes nothing; what changed meanwhile is brought up to date.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments")
	gw := w.gateway(g, running())
	first := w.agent().ready()
	stays, leaves := w.member("stays"), w.member("leaves")
	for _, s := range []*sandbox{stays, leaves} {
		if reply, err := w.add(s); err != nil || !reply.Member {
			t.Fatalf("ADD: %+v, %v", reply, err)
		}
		w.cached(s)
	}
	w.report(g, "ready", func(e *v1alpha1.EgressGateway) bool {
		return truth(e, v1alpha1.ConditionReady) == "True Ready" && e.Status.Members == 2
	})
	first.stop()
	before, version := inside(t, stays.ns), w.reportNow(g).ResourceVersion
	leaves.Labels = nil
	if err := w.client.Update(w.ctx(), leaves.Pod); err != nil {
		t.Fatal(err)
	}
	joins := w.member("joins")
	w.cached(joins)
	// The gateway's own, which has the name of a member's.
	run(t, gw.ns, "nft add table inet tailgate; ip rule add pref 7702 table 7717")
	w.agent().ready()
	w.changed("joined, from before the agent", joins.ns, isJoined)
	w.changed("left, what an agent before did", leaves.ns, func(state string) bool { return state == "" })
	if after := inside(t, stays.ns); after != before {
		t.Errorf("a restart changed\n%s\nto\n%s", before, after)
	}
	if state := run(t, gw.ns, "nft list tables; ip rule"); !strings.Contains(state, "tailgate") || !strings.Contains(state, "7702:") {
		t.Errorf("the agent took from the gateway what is its own; left is\n%s", state)
	}
	// Two members before, two after: only who they are is different, which is no reason to write. The next report is that
	// of a third.
	if reply, err := w.add(w.member("third")); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	w.report(g, "three", func(e *v1alpha1.EgressGateway) bool { return e.Status.Members == 3 })
	if n := writes(w, version); n != 1 {
		t.Errorf("the report was written %d times, want once", n)
	}
}

// writes counts how often the world's EgressGateways were written since a version.
func writes(w *world, since string) (n int) {
	w.Helper()
	watch, err := w.client.Watch(w.ctx(), &v1alpha1.EgressGatewayList{}, client.InNamespace(w.ns), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: since}})
	if err != nil {
		w.Fatal(err)
	}
	defer watch.Stop()
	for e := range watch.ResultChan() {
		n++
		if g, ok := e.Object.(*v1alpha1.EgressGateway); !ok || g.Status.Members == 3 {
			return n
		}
	}
	return n
}

// TestForced: a pod that the API has forgotten may still run. What keeps it in stays until its sandbox goes.
func TestForced(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments", func(s *v1alpha1.EgressGroupSpec) { s.ExitNode = &v1alpha1.ExitNode{NodeID: "auto:any"} })
	w.gateway(g, running())
	a := w.agent().ready()
	s := w.member("web")
	if reply, err := w.add(s); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	before := inside(t, s.ns)
	w.forget(s)
	w.report(g, "no member", func(e *v1alpha1.EgressGateway) bool { return e.Status.Members == 0 || !e.DeletionTimestamp.IsZero() })
	a.settle(s.UID) // what the watch put into the queue, for sure
	if after := inside(t, s.ns); after != before {
		t.Errorf("deleted by force, it has\n%s\nand had\n%s", after, before)
	}
	if _, err := w.call(cnirpc.Del, s, patience); err != nil {
		t.Fatal(err)
	}
	w.changed("left", s.ns, func(state string) bool { return state == "" })
}

// TestConflict: of two groups that select a pod the older has it, and the other says so.
func TestConflict(t *testing.T) {
	w := newWorld(t)
	older := w.group("a")
	w.gateway(older, running())
	younger := w.group("b")
	w.agent().ready()
	s := w.member("web")
	if reply, err := w.add(s); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	if note := w.event(s, ReasonConflicting); !strings.Contains(note, older.Name+", the oldest") || !strings.Contains(note, younger.Name) {
		t.Errorf("the event says %q", note)
	}
	egw := w.report(younger, "conflicting", func(e *v1alpha1.EgressGateway) bool {
		return truth(e, v1alpha1.ConditionMembersConflicting) == "True OlderGroup"
	})
	if isActive(egw) || egw.Status.Members != 0 {
		t.Errorf("a group without members has a gateway: %+v", egw)
	}
	if err := w.client.Delete(w.ctx(), older); err != nil {
		t.Fatal(err)
	}
	w.report(younger, "has it now", func(e *v1alpha1.EgressGateway) bool { return isActive(e) && e.Status.Members == 1 })
}

// TestLinger: a gateway outlives its last member for a while, and no longer.
func TestLinger(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments")
	w.gateway(g, running())
	w.agent(func(o *Options) { o.GatewayLinger = time.Second }).ready()
	s := w.member("web")
	if reply, err := w.add(s); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	w.report(g, "a member", func(e *v1alpha1.EgressGateway) bool { return e.Status.Members == 1 })
	w.forget(s)
	egw := w.report(g, "no member", func(e *v1alpha1.EgressGateway) bool { return e.Status.Members == 0 })
	if !isActive(egw) || !egw.DeletionTimestamp.IsZero() {
		t.Errorf("the gateway goes with its last member: %+v", egw)
	}
	w.noReport(g)
}

// TestDeviceOfOneThatGoes: a gateway that logs in while it is to go has its device deleted, too.
func TestDeviceOfOneThatGoes(t *testing.T) {
	w := newWorld(t)
	g := w.group("payments")
	starting := running()
	starting.BackendState, starting.Ready, starting.DeviceID = "Starting", false, ""
	f := w.gateway(g, starting)
	w.agent().ready()
	s := w.member("web")
	if reply, err := w.add(s); err != nil || !reply.Member {
		t.Fatalf("ADD: %+v, %v", reply, err)
	}
	egw := w.report(g, "a member", func(e *v1alpha1.EgressGateway) bool { return e.Status.BackendState == "Starting" })
	if err := w.client.Delete(w.ctx(), egw); err != nil {
		t.Fatal(err)
	}
	f.says(*running())
	w.report(g, "going, with its device", func(e *v1alpha1.EgressGateway) bool {
		return e.UID == egw.UID && !e.DeletionTimestamp.IsZero() && e.Status.DeviceID == "nDEV"
	})
}

// TestUninstall: the plugin stays in the chain when an agent is replaced, and goes with the agents' DaemonSet.
func TestUninstall(t *testing.T) {
	w := newWorld(t)
	ds := daemonSet(w.ns)
	w.create(ds)
	a := w.agent().ready()
	patched := func() bool { return strings.Contains(w.read("net.d/10-pods.conflist"), "tailgate-cni") }
	w.until("patched", &v1alpha1.EgressGroupList{}, func() string {
		if patched() {
			return ""
		}
		w.create(&v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{GenerateName: "tick-"}, Spec: v1alpha1.EgressGroupSpec{
			Selector: v1alpha1.Selector{PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"no": "pod"}}},
		}})
		return "it is not"
	})
	a.stop()
	if !patched() {
		t.Error("an agent that is replaced took the plugin out")
	}
	b := w.agent().ready()
	if err := w.client.Delete(w.ctx(), ds); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if got := w.read("net.d/10-pods.conflist"); got != conflist {
		t.Errorf("after the uninstall there is\n%s", got)
	}
	if _, err := os.Stat(w.dir + "/bin/tailgate-cni"); err == nil {
		t.Error("the binary is left")
	}
}

// TestServerAway: an agent that cannot reach the API server answers, and no pod waits for it longer than its plugin allows.
func TestServerAway(t *testing.T) {
	w := newWorld(t)
	away := make(chan struct{})
	w.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/egressgroups") {
				select {
				case <-away:
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			return next.RoundTrip(r)
		})
	}
	g := w.group("payments")
	w.gateway(g, running())
	a := w.agent()
	s := w.member("web")
	began := time.Now()
	_, err := w.call(cnirpc.Add, s, time.Second)
	if cnirpc.KindOf(err) != cnirpc.Unavailable || time.Since(began) > time.Second {
		t.Errorf("ADD of an agent that knows nothing: %v after %v", err, time.Since(began))
	}
	if _, err := w.call(cnirpc.Status, s, time.Second); cnirpc.KindOf(err) != cnirpc.Unavailable {
		t.Errorf("STATUS: %v", err)
	}
	w.cached(s)
	close(away)
	a.ready()
	w.changed("joined", s.ns, isJoined)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
