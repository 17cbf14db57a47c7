//go:build linux

package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

func TestRenewals(t *testing.T) {
	for span, want := range map[time.Duration]float64{time.Minute: 2, 5 * time.Minute: 4, 11 * time.Minute: 6} {
		b := &bench{s: settings{steady: span}, phases: []phase{{Requests: tally{"watch nodes": 7, "watch secrets": 14, "get nodes": 3}}}}
		if got := b.renewals(); got != want {
			t.Errorf("in %v, two watches may begin %v times, want %v", span, got, want)
		}
	}
}

func TestProblems(t *testing.T) {
	log := strings.Repeat("level=INFO msg=a\n", 3) + strings.Repeat("level=ERROR msg=b\n", 4) + "level=WARN msg=c\nlevel=ERROR msg=d\n"
	want := []string{"level=ERROR msg=b", "level=ERROR msg=b", "level=ERROR msg=b", "level=ERROR msg=b", "level=WARN msg=c", "and 1 more errors and warnings"}
	if diff := cmp.Diff(want, problemsIn([]byte(log))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	s, err := parse([]string{"--groups=50", "--steady=5s"}, io.Discard)
	want := settings{groups: 50, nodes: 500, pods: 10_000, gateways: 2, edits: 50, steady: 5 * time.Second, patience: 15 * time.Minute}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(settings{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"--groups=0", "--gateways=501", "--steady=0s", "more", "--edits=x"} {
		if _, err := parse([]string{bad}, io.Discard); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if _, err := parse([]string{"--operator=a", "--profile=b"}, io.Discard); err == nil {
		t.Error("a profile of a binary that is given was promised")
	}
}

// TestGateways shows that no two gateways are the same one, nor do they share an address.
func TestGateways(t *testing.T) {
	const per, nodes, all = 3, 5, 100_000
	names, addresses := map[string]bool{}, map[netip.Addr]bool{}
	for n := range all {
		names[newGateway(n, per, nodes).Name] = true
		for _, a := range gatewayStatus(n, n/per, "").Addresses {
			addresses[netip.MustParseAddr(a)] = true
		}
	}
	if len(names) != all || len(addresses) != 2*all {
		t.Errorf("%d gateways have %d names and %d addresses", all, len(names), len(addresses))
	}
}

func TestGroupSeen(t *testing.T) {
	g := newGroup(0)
	g.Generation = 2
	s := &g.Status
	if diff := cmp.Diff(groupSeen{}, groupSeenOf(g), cmp.AllowUnexported(groupSeen{})); diff != "" {
		t.Errorf("a new group (-want +got):\n%s", diff)
	}
	for _, c := range []string{v1alpha1.ConditionAuthKeyReady, v1alpha1.ConditionConfigRendered, v1alpha1.ConditionReady} {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: c, Status: metav1.ConditionTrue})
	}
	s.ConfigHash, s.ObservedGeneration = "abc", 1
	if got := groupSeenOf(g); got.first || got.ready {
		t.Errorf("a status of an older spec counts: %+v", got)
	}
	s.ObservedGeneration, s.Gateways = 2, v1alpha1.GatewayCount{Desired: 2, Ready: 1}
	if got := groupSeenOf(g); !got.first || got.ready {
		t.Errorf("with one of two gateways: %+v", got)
	}
	s.Gateways.Ready = 2
	if diff := cmp.Diff(groupSeen{hash: "abc", first: true, ready: true}, groupSeenOf(g), cmp.AllowUnexported(groupSeen{})); diff != "" {
		t.Errorf("with all gateways (-want +got):\n%s", diff)
	}
}

func TestAccepts(t *testing.T) {
	for text, want := range map[string]bool{"{\n  \"acceptRoutes\": true\n}": true, `{"acceptRoutes":false}`: false} {
		if got, err := accepts(text); err != nil || got != want {
			t.Errorf("%s says %t, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "{}"} {
		if _, err := accepts(bad); err == nil {
			t.Errorf("%q says something", bad)
		}
	}
}
