//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// times are how long something took, each time.
type times []time.Duration

// check wants the usual one within the promise, and the worst within three times that.
func (d times) check(t *testing.T, what string) {
	t.Helper()
	slices.Sort(d)
	usual, worst := d[len(d)/2], d[len(d)-1]
	t.Logf("%s: %v, at worst %v, of %d", what, usual.Round(time.Millisecond), worst.Round(time.Millisecond), len(d))
	if usual > promise || worst > 3*promise {
		t.Errorf("%s: %v, at worst %v; want %v, at worst %v", what, usual, worst, promise, 3*promise)
	}
}

// timed returns how long do took.
func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

// joins does what makes a pod a member, and returns how long it took until a peer answered it.
func joins(t *testing.T, p *lifePod, do func()) time.Duration {
	t.Helper()
	ping, err := rig.StartPing(t.Context(), p.host, s.Rig.Nodes[rig.Plain].Tail4, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Stop()
	return timed(func() {
		do()
		if err := ping.WaitAnswer(within(t, 30*time.Second)); err != nil {
			t.Fatalf("%s does not join: %v", p.Name, err)
		}
	})
}

// leaves does what makes a pod no member any more, and returns how long it took until its namespace was as before.
func leaves(t *testing.T, p *lifePod, before string, do func()) time.Duration {
	t.Helper()
	return timed(func() {
		do()
		awaitNS(t, p.ns, 30*time.Second, p.Name+" is as before", hasState(t, p.ns, before))
	})
}

// joinAndLeave: a label on a running pod is all it takes, and nothing stays behind.
func (l *life) joinAndLeave(t *testing.T) {
	t.Helper()
	before := state(t, l.free.ns)
	var joined, left times
	for range 5 {
		joined = append(joined, joins(t, l.free, func() { mustRelabel(t, l.free, peers) }))
		left = append(left, leaves(t, l.free, before, func() { mustRelabel(t, l.free, "") }))
	}
	joined.check(t, "from the label to a peer's answer")
	left.check(t, "from the label's end to a namespace as before")
}

// seenAs waits until a peer takes a pod for the device of that group on its node.
func seenAs(t *testing.T, p *lifePod, group string) {
	t.Helper()
	devices := deviceOf(t, group, p.Spec.NodeName)
	retry(t, 10*time.Second, p.Name+" is seen as "+group, func(ctx context.Context) error {
		// A connection that begins as the pod moves has the address that it had before, and never ends.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		a, err := rig.Get(ctx, p.host, s.Rig.Nodes[rig.Plain].Tail4)
		if err == nil && !slices.Contains(devices, a.From) {
			err = fmt.Errorf("it is seen as %v, and %s has %v", a.From, group, devices)
		}
		return err
	})
}

// namespace: labels of namespaces count as those of pods do; groups on a node are kept apart; of two groups that
// select a pod the older has it; and a group that is deleted lets its members go.
func (l *life) namespace(t *testing.T) {
	t.Helper()
	for name, labels := range map[string]map[string]string{"life": nil, "life-kept": {lifeLabel: "in"}} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if err := s.Client.Create(within(t, time.Minute), ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if out, err := s.Kubectl(context.WithoutCancel(t.Context()), "delete", "ns", name, "--wait=false"); err != nil {
				t.Error(err, out)
			}
		})
	}
	makeGroup(t, payments, "", func(g *v1alpha1.EgressGroup) {
		g.Spec.Selector = v1alpha1.Selector{NamespaceSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{lifeLabel: "in"}}}
	})
	p := entered(t, "life-ns", n1, ofNone, in("life"))
	kept := entered(t, "life-kept", n1, ofNone, in("life-kept")) // so that the gateway stays
	before := state(t, p.ns)
	awaitGateways(t, payments, n1)
	reaches(t, kept.host, s.Rig.Nodes[rig.Plain].Tail4)
	set := func(value string) func() {
		return func() { kubectl(t, "label", "ns", "life", "--overwrite", lifeLabel+"="+value) }
	}
	var joined, left times
	for range 3 {
		joined = append(joined, joins(t, p, set("in")))
		left = append(left, leaves(t, p, before, set("out")))
	}
	joined.check(t, "from the namespace's label to a peer's answer")
	left.check(t, "from the end of the namespace's label to a namespace as before")

	joins(t, p, set("in"))
	for pod, want := range map[*lifePod]string{p: payments, kept: payments, l.peers[n1]: peers} {
		seenAs(t, pod, want)
	}
	t.Run("Conflict", func(t *testing.T) { l.conflict(t, p) })

	deleted := leaves(t, p, before, func() { kubectl(t, "delete", "eg", payments, "--wait=false") })
	times{deleted}.check(t, "from the deletion of the group to a namespace as before")
	awaitNS(t, kept.ns, 10*time.Second, "the other member is free", func() error {
		if sh(t, kept.ns, "ip -br link; nft list ruleset; ip rule; ip -6 rule") == "" {
			return errNotYet
		}
		out := sh(t, kept.ns, "ip -o link show type veth; nft list ruleset; ip rule; ip -6 rule")
		if strings.Contains(out, "ts0") || strings.Contains(out, "table inet tailgate") || strings.Contains(out, "7717") {
			return fmt.Errorf("there is still %s", out)
		}
		return nil
	})
}

// conflict: p belongs to payments by its namespace, and is then selected by the older peers, too.
func (l *life) conflict(t *testing.T, p *lifePod) {
	t.Helper()
	conflicting := func(want metav1.ConditionStatus) {
		await(t, 30*time.Second, "MembersConflicting of payments is "+string(want), func(ctx context.Context) (string, error) {
			g, err := group(ctx, payments)
			if err != nil {
				return "", err
			}
			c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionMembersConflicting)
			if c == nil || c.Status != want {
				return fmt.Sprintf("%+v", c), nil
			}
			if want == metav1.ConditionTrue {
				t.Logf("it says: %s", c.Message)
			}
			return "", nil
		}, &v1alpha1.EgressGroupList{})
	}
	mustRelabel(t, p, peers)
	conflicting(metav1.ConditionTrue)
	seenAs(t, p, peers)
	await(t, 30*time.Second, "an event on the pod", func(ctx context.Context) (string, error) {
		var list eventsv1.EventList
		if err := s.Client.List(ctx, &list, client.InNamespace(p.Namespace)); err != nil {
			return "", err
		}
		for _, e := range list.Items {
			if e.Regarding.Name == p.Name && e.Reason == "Conflicting" {
				t.Logf("event: %s", e.Note)
				return "", nil
			}
		}
		return "none says Conflicting", nil
	}, &eventsv1.EventList{})
	mustRelabel(t, p, "")
	conflicting(metav1.ConditionFalse)
	seenAs(t, p, payments)
}

// drift: what others change of ours is set right, and what is theirs stays.
func (l *life) drift(t *testing.T) {
	t.Helper()
	p := l.exiting[n1]
	gateway := openGateway(t, exiting, n1)
	sh(t, p.ns, `ip route add unreachable 192.0.2.0/24 table 7717 proto static; ip rule add pref 7000 to 192.0.2.0/24 table 99
		nft 'table inet theirs { chain c { type filter hook output priority 0; }; }'`)
	theirs := "ip route show table 7717 proto static; ip rule show pref 7000; nft list table inet theirs"
	foreign := sh(t, p.ns, theirs)
	want := state(t, p.ns)
	wantGateway := state(t, gateway)
	var healed times
	for _, tt := range []struct {
		name, tamper string
		gateway      bool
	}{
		{name: "link deleted", tamper: "ip link del ts0"},
		{name: "link down", tamper: "ip link set ts0 down"},
		{name: "address removed", tamper: "ip addr flush dev ts0 scope global"},
		{name: "route removed", tamper: "ip route del 100.64.0.0/10 table 7717 metric 100"},
		{name: "default route removed", tamper: "ip route del default table 7717 metric 100"},
		{name: "kill switch removed", tamper: "ip route del unreachable default table 7717 metric 4096"},
		{name: "IPv6 kill switch removed", tamper: "ip -6 route del unreachable default table 7717 metric 4096"},
		{name: "rule removed", tamper: "ip rule del pref 7702"},
		{name: "rule tampered with", tamper: "ip rule add pref 7702 table main proto 77; ip -6 rule del pref 7702"},
		{name: "nftables rule tampered with", tamper: "nft insert rule inet tailgate guard accept"},
		{name: "nftables table deleted", tamper: "nft delete table inet tailgate"},
		{name: "link deleted in the gateway", gateway: true, tamper: "ip link del $(ip -o link | grep -o 'tg[0-9]*' | head -1)"},
		{name: "route removed in the gateway", gateway: true, tamper: "ip route del $(ip route show proto 77 | grep -o '^169.254[0-9.]*' | head -1)"},
	} {
		where := p.ns
		if tt.gateway {
			where = gateway
		}
		began := time.Now()
		sh(t, where, tt.tamper)
		awaitNS(t, p.ns, 10*time.Second, tt.name, hasState(t, p.ns, want))
		awaitNS(t, gateway, 10*time.Second, tt.name, hasState(t, gateway, wantGateway))
		took := time.Since(began)
		healed = append(healed, took)
		t.Logf("%s: healed after %v", tt.name, took.Round(time.Millisecond))
	}
	healed.check(t, "from tampering to as it was")
	if got := sh(t, p.ns, theirs); got != foreign {
		t.Errorf("what is not tailgate's changed:\n%s", lineDiff(foreign, got))
	}
	reaches(t, p.host, outside())
	sh(t, p.ns, "ip route del unreachable 192.0.2.0/24 table 7717 proto static; ip rule del pref 7000; nft delete table inet theirs")
}
