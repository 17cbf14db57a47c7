package membership

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Options are those of a [Model].
type Options struct {
	// OwnNamespace is the namespace that tailgate runs in. Empty: no pod is tailgate's own.
	OwnNamespace string
	// OwnLabels are the labels that tailgate's own pods have there, all of them. Empty: every pod
	// of OwnNamespace is tailgate's own.
	OwnLabels map[string]string
}

// Model knows one node's pods and all namespaces and groups. Telling it what it knows already
// costs little and changes nothing. A Model is not safe for concurrent use: its user needs a lock of
// its own anyway, to act on changes in their order.
type Model struct {
	opts       Options
	synced     bool
	groups     map[string]*group
	namespaces map[string]*namespace
	pods       map[types.UID]*pod
}

type namespace struct {
	known  bool // its labels are
	labels map[string]string
	groups []*group // that select the namespace, oldest first; none while it is not known
	pods   map[types.UID]*pod
}

type pod struct {
	Pod
	own      bool
	in       *namespace
	selected []*group // those that select the pod, oldest first
	now      Decision
}

// New returns a model that knows nothing.
func New(opts Options) *Model {
	return &Model{
		opts:       opts,
		groups:     map[string]*group{},
		namespaces: map[string]*namespace{},
		pods:       map[types.UID]*pod{},
	}
}

// GroupsSynced says that [Model.SetGroup] has been called for every group that there is. Before
// that no pod is put into a group, because an older one may be to come, or out of one.
func (m *Model) GroupsSynced() []Change {
	if m.synced {
		return nil
	}
	m.synced = true
	return m.decide(maps.Values(m.pods))
}

// SetGroup tells of a group, new or changed. The error is a sentence for people about a
// selector that is not valid, and so selects nothing; the changes count nevertheless.
func (m *Model) SetGroup(g Group) ([]Change, error) {
	old := m.groups[g.Name]
	now := newGroup(g)
	m.groups[g.Name] = now
	return m.exchange(old, now), now.problem
}

// DeleteGroup tells that a group is gone.
func (m *Model) DeleteGroup(name string) []Change {
	old := m.groups[name]
	delete(m.groups, name)
	return m.exchange(old, nil)
}

// exchange puts the group now, if there is one, in the place of the group old, if there is one.
func (m *Model) exchange(old, now *group) []Change {
	for _, ns := range m.namespaces {
		ns.groups = remove(ns.groups, old)
		in := ns.known && now != nil && now.hasNamespace(ns.labels)
		if in {
			ns.groups = insert(ns.groups, now)
		}
		for _, p := range ns.pods {
			p.selected = remove(p.selected, old)
			if in && now.hasPod(p.Labels) {
				p.selected = insert(p.selected, now)
			}
		}
	}
	return m.decide(maps.Values(m.pods))
}

// SetNamespace tells of a namespace, new or changed.
func (m *Model) SetNamespace(n Namespace) []Change {
	ns := m.namespace(n.Name)
	if ns.known && maps.Equal(ns.labels, n.Labels) {
		return nil
	}
	ns.known, ns.labels, ns.groups = true, n.Labels, nil
	for _, g := range m.groups {
		if g.hasNamespace(n.Labels) {
			ns.groups = append(ns.groups, g)
		}
	}
	slices.SortFunc(ns.groups, older)
	return m.relabelled(ns)
}

// DeleteNamespace tells that a namespace is gone. Its pods, should there be any left, are
// [Undecided].
func (m *Model) DeleteNamespace(name string) []Change {
	ns, ok := m.namespaces[name]
	if !ok {
		return nil
	}
	ns.known, ns.labels, ns.groups = false, nil, nil
	m.drop(name)
	return m.relabelled(ns)
}

// relabelled decides anew about the pods of a namespace that other groups select now.
func (m *Model) relabelled(ns *namespace) []Change {
	for _, p := range ns.pods {
		p.selectFrom(ns.groups)
	}
	return m.decide(maps.Values(ns.pods))
}

// SetPod tells of a pod of this node, new or changed.
func (m *Model) SetPod(n Pod) []Change {
	p, ok := m.pods[n.UID]
	if !ok {
		p = &pod{}
		m.pods[n.UID] = p
	}
	// Most updates of a pod are about its status.
	same := ok && p.Namespace == n.Namespace && maps.Equal(p.Labels, n.Labels)
	if ok && p.Namespace != n.Namespace {
		m.leave(p)
	}
	p.Pod = n
	if !same {
		p.own = m.isOwn(n)
		p.in = m.namespace(n.Namespace)
		p.in.pods[n.UID] = p
		p.selectFrom(p.in.groups)
	}
	return m.decide(slices.Values([]*pod{p}))
}

// DeletePod tells that a pod is gone.
func (m *Model) DeletePod(uid types.UID) []Change {
	p, ok := m.pods[uid]
	if !ok {
		return nil
	}
	delete(m.pods, uid)
	m.leave(p)
	return []Change{{Pod: p.ref(), Before: p.now}}
}

// leave takes p out of its namespace.
func (m *Model) leave(p *pod) {
	delete(p.in.pods, p.UID)
	m.drop(p.Namespace)
}

// namespace returns the namespace of that name, which need not be known.
func (m *Model) namespace(name string) *namespace {
	ns, ok := m.namespaces[name]
	if !ok {
		ns = &namespace{pods: map[types.UID]*pod{}}
		m.namespaces[name] = ns
	}
	return ns
}

// drop forgets a namespace that is not known and has no pods.
func (m *Model) drop(name string) {
	if ns := m.namespaces[name]; !ns.known && len(ns.pods) == 0 {
		delete(m.namespaces, name)
	}
}

// isOwn says whether p is one of tailgate's pods. A label alone does not do: anyone can set it.
func (m *Model) isOwn(p Pod) bool {
	if m.opts.OwnNamespace == "" || p.Namespace != m.opts.OwnNamespace {
		return false
	}
	for key, value := range m.opts.OwnLabels {
		if have, ok := p.Labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// selectFrom finds the groups that select the pod among those that select its namespace.
func (p *pod) selectFrom(groups []*group) {
	p.selected = nil
	for _, g := range groups {
		if g.hasPod(p.Labels) {
			p.selected = append(p.selected, g)
		}
	}
}

func (p *pod) ref() PodRef { return PodRef{UID: p.UID, Namespace: p.Namespace, Name: p.Name} }

func remove(groups []*group, g *group) []*group {
	if i := slices.Index(groups, g); i >= 0 {
		return slices.Delete(groups, i, i+1)
	}
	return groups
}

func insert(groups []*group, g *group) []*group {
	i, _ := slices.BinarySearchFunc(groups, g, older)
	return slices.Insert(groups, i, g)
}
