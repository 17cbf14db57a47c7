package membership

import (
	"iter"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// decide decides about pods and returns what changed, ordered by namespace and name.
func (m *Model) decide(pods iter.Seq[*pod]) []Change {
	var changes []Change
	for p := range pods {
		now := m.decision(p)
		if now.equal(p.now) {
			continue
		}
		changes = append(changes, Change{Pod: p.ref(), Before: p.now, After: now})
		p.now = now
	}
	slices.SortFunc(changes, func(a, b Change) int { return a.Pod.compare(b.Pod) })
	return changes
}

// decision is what p is by what is known now.
func (m *Model) decision(p *pod) Decision {
	switch {
	case p.HostNetwork:
		return p.outside(ReasonHostNetwork)
	case p.Finished:
		return p.outside(ReasonFinished)
	case p.own:
		return p.outside(ReasonOwnPod)
	case !m.synced:
		return Decision{State: Undecided, Reason: ReasonGroupsUnknown}
	case !p.in.known:
		return Decision{State: Undecided, Reason: ReasonNamespaceUnknown}
	case len(p.selected) == 0:
		return p.outside(ReasonNotSelected)
	}
	return Decision{State: Member, Group: p.selected[0].ref, Others: refs(p.selected[1:])}
}

func (p *pod) outside(why Reason) Decision {
	return Decision{State: Outside, Reason: why, Others: refs(p.selected)}
}

// refs returns nil for no groups.
func refs(groups []*group) []GroupRef {
	var list []GroupRef
	for _, g := range groups {
		list = append(list, g.ref)
	}
	return list
}

// Of returns what a pod is, and why.
func (m *Model) Of(uid types.UID) Decision {
	if p, ok := m.pods[uid]; ok {
		return p.now
	}
	return Decision{}
}

// MembersOf returns the pods that a group has, ordered by namespace and name.
func (m *Model) MembersOf(group string) []PodRef {
	var members []PodRef
	for _, p := range m.pods {
		if p.now.State == Member && p.now.Group.Name == group {
			members = append(members, p.ref())
		}
	}
	slices.SortFunc(members, PodRef.compare)
	return members
}

// Conflicts returns the pods that a group selects and an older one has, ordered by
// namespace and name.
func (m *Model) Conflicts(group string) []Conflict {
	var conflicts []Conflict
	for _, p := range m.pods {
		if p.now.State != Member {
			continue
		}
		if slices.ContainsFunc(p.now.Others, func(o GroupRef) bool { return o.Name == group }) {
			conflicts = append(conflicts, Conflict{Pod: p.ref(), Group: p.now.Group})
		}
	}
	slices.SortFunc(conflicts, func(a, b Conflict) int { return a.Pod.compare(b.Pod) })
	return conflicts
}

// Problem returns what [Model.SetGroup] returned last for a group: why it selects nothing. nil:
// its selector is valid, or there is no such group.
func (m *Model) Problem(group string) error {
	if g, ok := m.groups[group]; ok {
		return g.problem
	}
	return nil
}
