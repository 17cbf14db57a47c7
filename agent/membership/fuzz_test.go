package membership_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
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

// slow is the model written to be obvious: it keeps what it was told and answers
// each question from all of it.
type slow struct {
	synced     bool
	groups     map[string]slowGroup
	namespaces map[string]membership.Namespace
	pods       map[types.UID]membership.Pod
}

type slowGroup struct {
	membership.Group
	namespaces, pods match
}

// match is a label selector and what it means.
type match struct {
	says    *v1alpha1.LabelSelector
	means   func(labels) bool
	invalid bool
}

// matches are the selectors that the fuzzer chooses from; labels have keys a and b, values x and y.
var matches = []match{
	{nil, func(labels) bool { return true }, false},
	{&v1alpha1.LabelSelector{}, func(labels) bool { return true }, false},
	{&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"a": "x"}}, func(l labels) bool { return l["a"] == "x" }, false},
	{&v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"a": "y", "b": "x"}}, func(l labels) bool { return l["a"] == "y" && l["b"] == "x" }, false},
	{expr("b", metav1.LabelSelectorOpIn, "x", "y"), func(l labels) bool { return l["b"] == "x" || l["b"] == "y" }, false},
	{expr("b", metav1.LabelSelectorOpNotIn, "x"), func(l labels) bool { return l["b"] != "x" }, false},
	{expr("a", metav1.LabelSelectorOpExists), func(l labels) bool { _, ok := l["a"]; return ok }, false},
	{expr("a", metav1.LabelSelectorOpDoesNotExist), func(l labels) bool { _, ok := l["a"]; return !ok }, false},
	{expr("a", "Is", "x"), nil, true},
	{expr("a", metav1.LabelSelectorOpIn), nil, true},
}

// valid says whether g's selector is.
func (g slowGroup) valid() bool {
	return !g.namespaces.invalid && !g.pods.invalid && (g.namespaces.says != nil || g.pods.says != nil)
}

// selecting returns the groups that select p, oldest first.
func (s *slow) selecting(p membership.Pod) []membership.GroupRef {
	ns, known := s.namespaces[p.Namespace]
	if !known {
		return nil
	}
	var found []slowGroup
	for _, g := range s.groups {
		if g.valid() && !g.Deleting && g.namespaces.means(ns.Labels) && g.pods.means(p.Labels) {
			found = append(found, g)
		}
	}
	slices.SortFunc(found, func(a, b slowGroup) int {
		if !a.Created.Equal(b.Created) {
			return a.Created.Compare(b.Created)
		}
		return strings.Compare(a.Name, b.Name)
	})
	var list []membership.GroupRef
	for _, g := range found {
		list = append(list, membership.GroupRef{Name: g.Name, UID: g.UID})
	}
	return list
}

func (s *slow) of(uid types.UID) decision {
	p, ok := s.pods[uid]
	if !ok {
		return decision{}
	}
	groups := s.selecting(p)
	_, known := s.namespaces[p.Namespace]
	switch {
	case p.HostNetwork:
		return decision{State: membership.Outside, Reason: membership.ReasonHostNetwork, Others: groups}
	case p.Finished:
		return decision{State: membership.Outside, Reason: membership.ReasonFinished, Others: groups}
	case p.Namespace == ownNamespace && p.Labels["a"] == "x":
		return decision{State: membership.Outside, Reason: membership.ReasonOwnPod, Others: groups}
	case !s.synced:
		return undecided(membership.ReasonGroupsUnknown)
	case !known:
		return undecided(membership.ReasonNamespaceUnknown)
	case groups == nil:
		return outside(membership.ReasonNotSelected)
	case len(groups) == 1:
		return decision{State: membership.Member, Group: groups[0]}
	}
	return decision{State: membership.Member, Group: groups[0], Others: groups[1:]}
}

// all returns every pod's decision.
func (s *slow) all() map[membership.PodRef]decision {
	all := map[membership.PodRef]decision{}
	for uid, p := range s.pods {
		all[membership.PodRef{UID: uid, Namespace: p.Namespace, Name: p.Name}] = s.of(uid)
	}
	return all
}

// difference returns the changes that lead from one state to another.
func difference(before, after map[membership.PodRef]decision) []change {
	pods := map[membership.PodRef]bool{}
	for p := range before {
		pods[p] = true
	}
	for p := range after {
		pods[p] = true
	}
	var changes []change
	for _, p := range sorted(maps.Keys(pods)) {
		if !reflect.DeepEqual(before[p], after[p]) {
			changes = append(changes, change{Pod: p, Before: before[p], After: after[p]})
		}
	}
	return changes
}

const (
	ownNamespace = "n0"
	fuzzGroups   = 5
	fuzzPods     = 5
)

// source reads small numbers from the fuzzer's bytes; zeros when they are used up.
type source []byte

func (s *source) below(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func (s *source) labels() labels {
	l := labels{}
	for _, key := range []string{"a", "b"} {
		if v := s.below(3); v > 0 {
			l[key] = string("xy"[v-1])
		}
	}
	return l
}

// step does one thing to both models and returns what it was, and the changes.
func (s *source) step(m *membership.Model, slow *slow) (did string, got []change) {
	// A pod does not change its name, nor its namespace.
	n := s.below(fuzzPods)
	podUID, namespace := types.UID(fmt.Sprint("p", n)), fmt.Sprint("n", n%3)
	groupName := fmt.Sprint("g", s.below(fuzzGroups))
	switch s.below(10) {
	case 0, 1, 2:
		g := slowGroup{namespaces: matches[s.below(len(matches))], pods: matches[s.below(len(matches))]}
		g.Group = membership.Group{
			Name: groupName, UID: types.UID(fmt.Sprint(groupName, "-", s.below(2))), Created: time.Unix(int64(s.below(3)), 0),
			Selector: v1alpha1.Selector{NamespaceSelector: g.namespaces.says, PodSelector: g.pods.says},
			Deleting: s.below(5) == 4,
		}
		slow.groups[groupName] = g
		changes, err := m.SetGroup(g.Group)
		if (err == nil) != g.valid() || (m.Problem(groupName) == nil) != g.valid() {
			return fmt.Sprintf("SetGroup(%+v) returned %v", g, err), nil
		}
		return fmt.Sprintf("SetGroup(%+v)", g.Group), changes
	case 3:
		delete(slow.groups, groupName)
		return fmt.Sprintf("DeleteGroup(%s)", groupName), m.DeleteGroup(groupName)
	case 4, 5:
		ns := membership.Namespace{Name: namespace, Labels: s.labels()}
		slow.namespaces[namespace] = ns
		return fmt.Sprintf("SetNamespace(%+v)", ns), m.SetNamespace(ns)
	case 6:
		delete(slow.namespaces, namespace)
		return fmt.Sprintf("DeleteNamespace(%s)", namespace), m.DeleteNamespace(namespace)
	case 7, 8:
		p := membership.Pod{
			UID: podUID, Namespace: namespace, Name: string(podUID), Labels: s.labels(),
			HostNetwork: s.below(8) == 7, Finished: s.below(8) == 7,
		}
		slow.pods[podUID] = p
		return fmt.Sprintf("SetPod(%+v)", p), m.SetPod(p)
	default:
		if s.below(2) == 0 {
			slow.synced = true
			return "GroupsSynced", m.GroupsSynced()
		}
		delete(slow.pods, podUID)
		return fmt.Sprintf("DeletePod(%s)", podUID), m.DeletePod(podUID)
	}
}

// FuzzMembership does the same to the model and to the slow one, and asks both everything
// after each step; in the end it tells a third model the same in another order.
func FuzzMembership(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		data := make([]byte, 40+rng.IntN(400))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 500)] // longer ones repeat themselves, slowly
		opts := membership.Options{OwnNamespace: ownNamespace, OwnLabels: labels{"a": "x"}}
		m := membership.New(opts)
		s := &slow{groups: map[string]slowGroup{}, namespaces: map[string]membership.Namespace{}, pods: map[types.UID]membership.Pod{}}
		var history []string
		for src := source(data); len(src) > 0; {
			before := s.all()
			did, got := src.step(m, s)
			history = append(history, did)
			if diff := differ(difference(before, s.all()), got) + questions(m, s); diff != "" {
				t.Fatalf("after\n%s\n(-want +got):\n%s", strings.Join(history, "\n"), diff)
			}
		}
		if diff := questions(inAnotherOrder(opts, s, len(data)), s); diff != "" {
			t.Fatalf("told in another order than\n%s\n(-want +got):\n%s", strings.Join(history, "\n"), diff)
		}
	})
}

// differ is cmp.Diff, quick to see that nothing differs.
func differ[T any](want, got T) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// questions asks both models everything and returns where they differ.
func questions(m *membership.Model, s *slow) string {
	var diff string
	for n := range fuzzPods {
		uid := types.UID(fmt.Sprint("p", n))
		diff += differ(s.of(uid), m.Of(uid))
	}
	all := s.all()
	for n := range fuzzGroups {
		name := fmt.Sprint("g", n)
		var members []membership.PodRef
		var conflicts []membership.Conflict
		for _, p := range sorted(maps.Keys(all)) {
			switch d := all[p]; {
			case d.State != membership.Member:
			case d.Group.Name == name:
				members = append(members, p)
			case slices.ContainsFunc(d.Others, func(o membership.GroupRef) bool { return o.Name == name }):
				conflicts = append(conflicts, membership.Conflict{Pod: p, Group: d.Group})
			}
		}
		diff += differ(members, m.MembersOf(name)) + differ(conflicts, m.Conflicts(name))
	}
	return diff
}

func sorted(pods func(func(membership.PodRef) bool)) []membership.PodRef {
	return slices.SortedFunc(pods, func(a, b membership.PodRef) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
}

// inAnotherOrder returns a new model that was told what s knows.
func inAnotherOrder(opts membership.Options, s *slow, seed int) *membership.Model {
	m := membership.New(opts)
	var steps []func()
	for _, g := range s.groups {
		steps = append(steps, func() { _, _ = m.SetGroup(g.Group) })
	}
	for _, ns := range s.namespaces {
		steps = append(steps, func() { m.SetNamespace(ns) })
	}
	for _, p := range s.pods {
		steps = append(steps, func() { m.SetPod(p) })
	}
	if s.synced {
		steps = append(steps, func() { m.GroupsSynced() })
	}
	rand.New(rand.NewPCG(uint64(seed), 0)).Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, step := range steps {
		step()
	}
	return m
}
