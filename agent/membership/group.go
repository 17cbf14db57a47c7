package membership

import (
	"cmp"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// group is a [Group] with its selectors compiled.
type group struct {
	Group
	ref GroupRef
	// problem says why the selector is not valid.
	problem error
	// namespaces and pods are nil in a group that selects nothing.
	namespaces, pods labels.Selector
}

func newGroup(g Group) *group {
	n := &group{Group: g, ref: GroupRef{Name: g.Name, UID: g.UID}}
	namespaces, pods, err := compile(g.Selector)
	if err != nil {
		n.problem = fmt.Errorf("EgressGroup %s selects no pod: %w", g.Name, err)
	} else if !g.Deleting {
		n.namespaces, n.pods = namespaces, pods
	}
	return n
}

// compile returns s as two selectors of which neither is nil.
func compile(s v1alpha1.Selector) (namespaces, pods labels.Selector, err error) {
	if s.NamespaceSelector == nil && s.PodSelector == nil {
		return nil, nil, errors.New("spec.selector is empty; write a namespaceSelector, a podSelector or both, or podSelector: {} for every pod of the cluster")
	}
	namespaces, nerr := compilePart("namespaceSelector", s.NamespaceSelector)
	pods, perr := compilePart("podSelector", s.PodSelector)
	return namespaces, pods, errors.Join(nerr, perr)
}

func compilePart(field string, s *v1alpha1.LabelSelector) (labels.Selector, error) {
	compiled, err := s.Selector()
	if err != nil {
		return nil, fmt.Errorf("spec.selector.%s is not a label selector: %w; write operators In and NotIn with values, Exists and DoesNotExist without", field, err)
	}
	return compiled, nil
}

func (g *group) hasNamespace(of map[string]string) bool {
	return g.namespaces != nil && g.namespaces.Matches(labels.Set(of))
}

// hasPod is asked only about pods whose namespace the group has.
func (g *group) hasPod(of map[string]string) bool { return g.pods.Matches(labels.Set(of)) }

// older orders groups by who has a pod that both select.
func older(a, b *group) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}
