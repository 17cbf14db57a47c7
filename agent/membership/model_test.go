package membership_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

type (
	change   = membership.Change
	decision = membership.Decision
	labels   = map[string]string
)

var (
	egress   = labels{"tailgate.dev/egress": "true"}
	payments = labels{"kubernetes.io/metadata.name": "payments"}
	own      = labels{"app.kubernetes.io/part-of": "tailgate"}
)

// day returns a time; later ones are younger groups'.
func day(n int) time.Time { return time.Date(2024, 1, n, 0, 0, 0, 0, time.UTC) }

func selector(namespaces, pods labels) v1alpha1.Selector {
	var s v1alpha1.Selector
	if namespaces != nil {
		s.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: values(namespaces)}
	}
	if pods != nil {
		s.PodSelector = &v1alpha1.LabelSelector{MatchLabels: values(pods)}
	}
	return s
}

func values(l labels) map[string]v1alpha1.LabelValue {
	m := map[string]v1alpha1.LabelValue{}
	for key, value := range l {
		m[key] = v1alpha1.LabelValue(value)
	}
	return m
}

func expr(key string, op metav1.LabelSelectorOperator, values ...v1alpha1.LabelValue) *v1alpha1.LabelSelector {
	return &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

// group returns a group that is as many days young, whose UID is its name and "-uid".
func group(name string, young int, s v1alpha1.Selector) membership.Group {
	return membership.Group{Name: name, UID: types.UID(name + "-uid"), Created: day(young), Selector: s}
}

func groupRef(name string) membership.GroupRef {
	return membership.GroupRef{Name: name, UID: types.UID(name + "-uid")}
}

// pod returns a pod whose UID is its name.
func pod(namespace, name string, l labels) membership.Pod {
	return membership.Pod{UID: types.UID(name), Namespace: namespace, Name: name, Labels: l}
}

func podRef(namespace, name string) membership.PodRef {
	return membership.PodRef{UID: types.UID(name), Namespace: namespace, Name: name}
}

func member(name string, others ...string) decision {
	return decision{State: membership.Member, Group: groupRef(name), Others: groupRefs(others)}
}

func outside(why membership.Reason, others ...string) decision {
	return decision{State: membership.Outside, Reason: why, Others: groupRefs(others)}
}

func undecided(why membership.Reason) decision {
	return decision{State: membership.Undecided, Reason: why}
}

func groupRefs(names []string) []membership.GroupRef {
	var refs []membership.GroupRef
	for _, name := range names {
		refs = append(refs, groupRef(name))
	}
	return refs
}

// newModel returns a model that knows all groups and the namespace payments.
func newModel(t *testing.T, groups ...membership.Group) *membership.Model {
	t.Helper()
	m := membership.New(membership.Options{OwnNamespace: "tailgate-system", OwnLabels: own})
	for _, g := range groups {
		setGroup(t, m, g)
	}
	m.GroupsSynced()
	m.SetNamespace(membership.Namespace{Name: "payments", Labels: payments})
	return m
}

func setGroup(t *testing.T, m *membership.Model, g membership.Group) []change {
	t.Helper()
	changes, err := m.SetGroup(g)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func check[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestOldestGroupHasThePod(t *testing.T) {
	m := newModel(t, group("young", 3, selector(nil, egress)), group("peers", 2, selector(nil, egress)))
	p := podRef("payments", "a")
	check(t, "pod set", []change{{Pod: p, After: member("peers", "young")}}, m.SetPod(pod("payments", "a", egress)))
	check(t, "older group set",
		[]change{{Pod: p, Before: member("peers", "young"), After: member("payments", "peers", "young")}},
		setGroup(t, m, group("payments", 1, selector(payments, egress))))
	check(t, "group of the same second set",
		[]change{{Pod: p, Before: member("payments", "peers", "young"), After: member("a-group", "payments", "peers", "young")}},
		setGroup(t, m, group("a-group", 1, selector(payments, nil))))

	check(t, "members of a-group", []membership.PodRef{p}, m.MembersOf("a-group"))
	check(t, "members of peers", nil, m.MembersOf("peers"))
	check(t, "conflicts of a-group", nil, m.Conflicts("a-group"))
	check(t, "conflicts of peers", []membership.Conflict{{Pod: p, Group: groupRef("a-group")}}, m.Conflicts("peers"))
}

func TestGroupGoes(t *testing.T) {
	m := newModel(t, group("old", 1, selector(nil, egress)), group("young", 2, selector(nil, egress)))
	p := podRef("payments", "a")
	m.SetPod(pod("payments", "a", egress))

	deleting := group("old", 1, selector(nil, egress))
	deleting.Deleting = true
	check(t, "group is being deleted",
		[]change{{Pod: p, Before: member("old", "young"), After: member("young")}}, setGroup(t, m, deleting))
	check(t, "group gone", nil, m.DeleteGroup("old"))
	check(t, "the other gone",
		[]change{{Pod: p, Before: member("young"), After: outside(membership.ReasonNotSelected)}}, m.DeleteGroup("young"))
	check(t, "gone again", nil, m.DeleteGroup("young"))
}

func TestGroupMadeAgainIsAnotherGroup(t *testing.T) {
	m := newModel(t, group("peers", 1, selector(nil, egress)))
	m.SetPod(pod("payments", "a", egress))
	again := group("peers", 2, selector(nil, egress))
	again.UID = "second"
	after := decision{State: membership.Member, Group: membership.GroupRef{Name: "peers", UID: "second"}}
	check(t, "group replaced", []change{{Pod: podRef("payments", "a"), Before: member("peers"), After: after}}, setGroup(t, m, again))
}

func TestSelectorParts(t *testing.T) {
	for _, tt := range []struct {
		name            string
		namespace, pods labels
		want            decision
	}{
		{"both", payments, egress, member("g")},
		{"namespace only", payments, nil, member("g")},
		{"pod only", nil, egress, member("g")},
		{"other namespace", labels{"team": "x"}, egress, outside(membership.ReasonNotSelected)},
		{"other pod", payments, labels{"app": "x"}, outside(membership.ReasonNotSelected)},
		{"every pod", nil, labels{}, member("g")},
		{"every namespace", labels{}, nil, member("g")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newModel(t, group("g", 1, selector(tt.namespace, tt.pods)))
			m.SetPod(pod("payments", "a", egress))
			check(t, "decision", tt.want, m.Of("a"))
		})
	}
}

func TestInvalidSelectorSelectsNothingAndSaysSo(t *testing.T) {
	const write = "; write operators In and NotIn with values, Exists and DoesNotExist without"
	for _, tt := range []struct {
		name       string
		selector   v1alpha1.Selector
		begin, end string // of the sentence; what is between is Kubernetes'
	}{
		{
			"empty", v1alpha1.Selector{},
			"EgressGroup g selects no pod: spec.selector is empty; ",
			"write a namespaceSelector, a podSelector or both, or podSelector: {} for every pod of the cluster",
		},
		{
			"operator", v1alpha1.Selector{PodSelector: expr("app", "Is", "x")},
			`EgressGroup g selects no pod: spec.selector.podSelector is not a label selector: "Is" is not a valid`, write,
		},
		{
			"values", v1alpha1.Selector{NamespaceSelector: expr("team", metav1.LabelSelectorOpIn), PodSelector: &v1alpha1.LabelSelector{}},
			"EgressGroup g selects no pod: spec.selector.namespaceSelector is not a label selector: values: Invalid value", write,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newModel(t, group("g", 1, selector(nil, labels{})))
			m.SetPod(pod("payments", "a", egress))
			changes, err := m.SetGroup(group("g", 1, tt.selector))
			check(t, "changes", []change{{
				Pod: podRef("payments", "a"), Before: member("g"), After: outside(membership.ReasonNotSelected),
			}}, changes)
			if err == nil || !strings.HasPrefix(err.Error(), tt.begin) || !strings.HasSuffix(err.Error(), tt.end) {
				t.Errorf("error %v\nwant  %s ... %s", err, tt.begin, tt.end)
			}
			if m.Problem("g") == nil {
				t.Error("the model forgot the problem")
			}
			check(t, "mended", []change{{
				Pod: podRef("payments", "a"), Before: outside(membership.ReasonNotSelected), After: member("g"),
			}}, setGroup(t, m, group("g", 1, selector(nil, egress))))
			if err := m.Problem("g"); err != nil {
				t.Errorf("the problem stays: %v", err)
			}
		})
	}
}

func TestNeverMembers(t *testing.T) {
	m := newModel(t, group("all", 1, selector(nil, labels{})))
	m.SetNamespace(membership.Namespace{Name: "tailgate-system"})
	for _, tt := range []struct {
		name   string
		change func(*membership.Pod)
		want   decision
	}{
		{"ordinary", func(*membership.Pod) {}, member("all")},
		{"host network", func(p *membership.Pod) { p.HostNetwork = true }, outside(membership.ReasonHostNetwork, "all")},
		{"finished", func(p *membership.Pod) { p.Finished = true }, outside(membership.ReasonFinished, "all")},
		{"own", func(p *membership.Pod) { p.Namespace, p.Labels = "tailgate-system", own }, outside(membership.ReasonOwnPod, "all")},
		{"own label elsewhere", func(p *membership.Pod) { p.Labels = own }, member("all")},
		{"own namespace, other label", func(p *membership.Pod) { p.Namespace = "tailgate-system" }, member("all")},
		{
			"host network in an unknown namespace", func(p *membership.Pod) { p.HostNetwork, p.Namespace = true, "new" },
			outside(membership.ReasonHostNetwork),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod("payments", "a", nil)
			tt.change(&p)
			m.SetPod(p)
			check(t, "decision", tt.want, m.Of("a"))
		})
	}
}

func TestMemberFinishes(t *testing.T) {
	m := newModel(t, group("g", 1, selector(nil, egress)))
	p := pod("payments", "a", egress)
	m.SetPod(p)
	p.Finished = true
	check(t, "finished", []change{{
		Pod: podRef("payments", "a"), Before: member("g"), After: outside(membership.ReasonFinished, "g"),
	}}, m.SetPod(p))
	check(t, "members", nil, m.MembersOf("g"))
	check(t, "gone", []change{{Pod: podRef("payments", "a"), Before: outside(membership.ReasonFinished, "g")}}, m.DeletePod("a"))
	check(t, "gone again", nil, m.DeletePod("a"))
	check(t, "decision", decision{}, m.Of("a"))
}

// TestNothingIsDecidedBeforeItIsKnown: a pod never goes Outside, which would make it leave, for
// want of knowledge.
func TestNothingIsDecidedBeforeItIsKnown(t *testing.T) {
	m := membership.New(membership.Options{})
	p := podRef("payments", "a")
	groups, namespace := undecided(membership.ReasonGroupsUnknown), undecided(membership.ReasonNamespaceUnknown)
	check(t, "pod before all", []change{{Pod: p, After: groups}}, m.SetPod(pod("payments", "a", egress)))
	check(t, "a group, not all", nil, setGroup(t, m, group("young", 2, selector(payments, nil))))
	check(t, "groups", []change{{Pod: p, Before: groups, After: namespace}}, m.GroupsSynced())
	check(t, "groups again", nil, m.GroupsSynced())
	check(t, "namespace", []change{{Pod: p, Before: namespace, After: member("young")}},
		m.SetNamespace(membership.Namespace{Name: "payments", Labels: payments}))
	check(t, "namespace gone", []change{{Pod: p, Before: member("young"), After: namespace}}, m.DeleteNamespace("payments"))
	check(t, "gone again", nil, m.DeleteNamespace("payments"))
	check(t, "namespace back", []change{{Pod: p, Before: namespace, After: member("young")}},
		m.SetNamespace(membership.Namespace{Name: "payments", Labels: payments}))
}

func TestLabelsChange(t *testing.T) {
	m := newModel(t, group("g", 1, selector(payments, egress)))
	m.SetNamespace(membership.Namespace{Name: "shop"})
	for _, p := range []membership.Pod{pod("payments", "a", egress), pod("payments", "b", nil), pod("shop", "c", egress), pod("shop", "d", egress)} {
		m.SetPod(p)
	}
	check(t, "members", []membership.PodRef{podRef("payments", "a")}, m.MembersOf("g"))

	none := outside(membership.ReasonNotSelected)
	check(t, "namespace labelled", []change{
		{Pod: podRef("shop", "c"), Before: none, After: member("g")},
		{Pod: podRef("shop", "d"), Before: none, After: member("g")},
	}, m.SetNamespace(membership.Namespace{Name: "shop", Labels: payments}))
	check(t, "pod labelled", []change{{Pod: podRef("payments", "b"), Before: none, After: member("g")}}, m.SetPod(pod("payments", "b", egress)))
	check(t, "label taken away", []change{{Pod: podRef("shop", "d"), Before: member("g"), After: none}}, m.SetPod(pod("shop", "d", nil)))
	check(t, "members", []membership.PodRef{podRef("payments", "a"), podRef("payments", "b"), podRef("shop", "c")}, m.MembersOf("g"))
	check(t, "namespace unlabelled", []change{{Pod: podRef("shop", "c"), Before: member("g"), After: none}},
		m.SetNamespace(membership.Namespace{Name: "shop"}))
}

func TestTheSameAgainChangesNothing(t *testing.T) {
	g, p := group("g", 1, selector(payments, egress)), pod("payments", "a", egress)
	m := newModel(t, g)
	m.SetPod(p)
	p.Labels = labels{"tailgate.dev/egress": "true"} // another map
	check(t, "all again", nil, slices.Concat(setGroup(t, m, g), m.SetPod(p),
		m.SetNamespace(membership.Namespace{Name: "payments", Labels: payments})))
}

// TestPodMoves is of no cluster; but a pod that is in two places would be hard to find.
func TestPodMoves(t *testing.T) {
	m := newModel(t, group("g", 1, selector(payments, egress)))
	m.SetNamespace(membership.Namespace{Name: "shop"})
	m.SetPod(pod("shop", "a", egress))
	check(t, "moved", []change{{
		Pod: podRef("payments", "a"), Before: outside(membership.ReasonNotSelected), After: member("g"),
	}}, m.SetPod(pod("payments", "a", egress)))
	check(t, "its old namespace changes", nil, m.SetNamespace(membership.Namespace{Name: "shop", Labels: labels{"team": "x"}}))
	check(t, "members", []membership.PodRef{podRef("payments", "a")}, m.MembersOf("g"))
}
