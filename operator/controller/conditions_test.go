package controller

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// gatewayOn is an EgressGateway that reports itself ready, changed.
func gatewayOn(node string, change func(*v1alpha1.EgressGateway)) v1alpha1.EgressGateway {
	g := v1alpha1.EgressGateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "gw-" + node},
		Spec:       v1alpha1.EgressGatewaySpec{Group: "payments", Node: node},
		Status: v1alpha1.EgressGatewayStatus{Members: 1, ConfigHash: "h", Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Running"},
		}},
	}
	change(&g)
	return g
}

func TestStatus(t *testing.T) {
	const exit = "exit.tail.test"
	fine := func(*v1alpha1.EgressGateway) {}
	uses := func(id string, online bool) func(*v1alpha1.EgressGateway) {
		return func(g *v1alpha1.EgressGateway) {
			g.Status.ExitNode = &v1alpha1.GatewayExitNode{Wanted: exit, ID: id, Name: "name-" + id, Online: online}
		}
	}
	sick := func(message string) func(*v1alpha1.EgressGateway) {
		return func(g *v1alpha1.EgressGateway) {
			g.Status.Conditions[0] = metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "NeedsLogin", Message: message}
		}
	}
	tests := []struct {
		name     string
		exit     bool
		pods     int32 // ready
		gateways []v1alpha1.EgressGateway
		want     []string // condition, status, reason; and a part of Ready's message behind a colon
		resolved string
	}{
		{name: "no members", want: []string{"GatewaysReady True NoMembers", "Ready True NoMembers: there are none"}},
		{
			name: "ready", pods: 2, gateways: []v1alpha1.EgressGateway{gatewayOn("a", fine), gatewayOn("b", fine)},
			want: []string{"GatewaysReady True AllReady", "Ready True Ready: 2 of 2"},
		},
		{
			name: "a pod is missing", pods: 1, gateways: []v1alpha1.EgressGateway{gatewayOn("a", fine), gatewayOn("b", fine)},
			want: []string{"GatewaysReady False NotReady", "Ready False NotReady: kubectl -n ns get pods"},
		},
		{
			name: "a gateway says so", pods: 2, gateways: []v1alpha1.EgressGateway{gatewayOn("a", fine), gatewayOn("b", sick("it cannot log in"))},
			want: []string{"GatewaysReady False NotReady", "Ready False NotReady: 1 of 2 gateways are ready; b: it cannot log in"},
		},
		{
			name: "many say so", pods: 5, gateways: []v1alpha1.EgressGateway{
				gatewayOn("a", sick("1")), gatewayOn("b", sick("2")), gatewayOn("c", sick("3")), gatewayOn("d", sick("4")), gatewayOn("e", sick("5")),
			},
			want: []string{"GatewaysReady False NotReady", "Ready False NotReady: 0 of 5 gateways are ready; a: 1; b: 2; c: 3; and 2 more"},
		},
		{
			name: "exit node", exit: true, pods: 2, gateways: []v1alpha1.EgressGateway{gatewayOn("a", uses("n1", true)), gatewayOn("b", uses("n1", true))},
			want: []string{"GatewaysReady True AllReady", "ExitNodeReady True ExitNodeInUse", "Ready True Ready: "}, resolved: "n1",
		},
		{
			name: "several exit nodes", exit: true, pods: 3, gateways: []v1alpha1.EgressGateway{
				gatewayOn("a", uses("n2", true)), gatewayOn("b", uses("n1", true)), gatewayOn("c", uses("n2", true)),
			},
			want: []string{"GatewaysReady True AllReady", "ExitNodeReady True ExitNodeInUse", "Ready True Ready: "}, resolved: "n2",
		},
		{
			name: "exit node not known yet", exit: true, pods: 1, gateways: []v1alpha1.EgressGateway{gatewayOn("a", fine)},
			want: []string{"GatewaysReady True AllReady", "ExitNodeReady Unknown ExitNodePending", "Ready Unknown ExitNodePending: a"},
		},
		{
			name: "exit node not found", exit: true, pods: 1, gateways: []v1alpha1.EgressGateway{gatewayOn("a", func(g *v1alpha1.EgressGateway) {
				g.Status.ExitNode = &v1alpha1.GatewayExitNode{Wanted: exit, Message: "no node has that name"}
			})},
			want: []string{"GatewaysReady True AllReady", "ExitNodeReady False ExitNodeUnusable", "Ready False ExitNodeUnusable: a: no node has that name"},
		},
		{
			name: "exit node offline", exit: true, pods: 1, gateways: []v1alpha1.EgressGateway{gatewayOn("a", uses("n1", false))},
			want: []string{"GatewaysReady True AllReady", "ExitNodeReady False ExitNodeOffline", "Ready False ExitNodeOffline: bring it back"}, resolved: "n1",
		},
		{name: "exit node without members", exit: true, want: []string{"GatewaysReady True NoMembers", "ExitNodeReady True NoMembers", "Ready True NoMembers: "}},
		{
			name: "members of an older group", pods: 1, gateways: []v1alpha1.EgressGateway{gatewayOn("a", func(g *v1alpha1.EgressGateway) {
				meta.SetStatusCondition(&g.Status.Conditions, metav1.Condition{
					Type: v1alpha1.ConditionMembersConflicting, Status: metav1.ConditionTrue, Reason: "OlderGroup", Message: "pod x/y is in group peers",
				})
			})},
			want: []string{"GatewaysReady True AllReady", "MembersConflicting True OlderGroup", "Ready True Ready: "},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := testRun()
			if tt.exit {
				run.group.Spec.ExitNode = &v1alpha1.ExitNode{NodeID: exit}
			}
			run.daemons.Status.NumberReady, run.gateways = tt.pods, tt.gateways
			if _, err := run.status(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range run.group.Status.Conditions {
				line := c.Type + " " + string(c.Status) + " " + c.Reason
				if c.Type == v1alpha1.ConditionReady {
					want, part, _ := strings.Cut(tt.want[len(tt.want)-1], ": ")
					if strings.Contains(c.Message, part) && line == want {
						line += ": " + part
					} else {
						line += ": " + c.Message
					}
				}
				if c.Type == v1alpha1.ConditionMembersConflicting && c.Status == metav1.ConditionFalse {
					continue
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			resolved := ""
			if e := run.group.Status.ExitNode; e != nil {
				resolved = e.ID
			}
			if resolved != tt.resolved {
				t.Errorf("exit node %q, want %q", resolved, tt.resolved)
			}
		})
	}
}

func testRun() *groupRun {
	s := &shared{
		Options:  Options{Clock: clocktesting.NewFakePassiveClock(noon), Metrics: NewMetrics(nil), Render: render.Options{Namespace: "ns"}},
		cleanups: &cleanups{},
	}
	return &groupRun{
		groups:  &groups{shared: s, timers: &timers{}},
		group:   &v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{Name: "payments"}},
		daemons: &appsv1.DaemonSet{},
	}
}

// TestConfigIsTimed: from the change until the last gateway reports it, once.
func TestConfigIsTimed(t *testing.T) {
	registry := prometheus.NewRegistry()
	run := testRun()
	run.Metrics = NewMetrics(registry)
	run.group.Status.ConfigHash = "h2"
	old := func(*v1alpha1.EgressGateway) {}
	applied := func(g *v1alpha1.EgressGateway) { g.Status.ConfigHash = "h2" }
	count := func() int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "tailgate_operator_config_applied_seconds" {
				return int(f.GetMetric()[0].GetHistogram().GetSampleCount())
			}
		}
		return -1
	}
	step := func(what string, want int, gateways ...v1alpha1.EgressGateway) {
		t.Helper()
		run.timeConfig(gateways)
		if got := count(); got != want {
			t.Errorf("%s: %d measurements, want %d", what, got, want)
		}
	}
	step("no change", 0, gatewayOn("a", applied))
	run.timers.start("payments", "h2")
	step("one of two", 0, gatewayOn("a", applied), gatewayOn("b", old))
	step("both", 1, gatewayOn("a", applied), gatewayOn("b", applied))
	step("still", 1, gatewayOn("a", applied), gatewayOn("b", applied))
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}
