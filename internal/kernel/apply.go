//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// Apply does what the plan says, in order. An operation that fails does not keep the
// next ones from being tried, except those on a link that could not be made; what
// worked stays, and the errors come back joined, each with its operation. It may be
// called again with the same plan.
func (n *Namespace) Apply(plan netstate.Plan) error {
	a := &applier{n: n, links: map[string]int32{}, failed: map[string]bool{}}
	var errs []error
	for i := 0; i < len(plan); i++ {
		if ops := deletions(plan[i:]); len(ops) > 0 {
			errs = append(errs, a.delLinks(ops))
			i += len(ops) - 1
			continue
		}
		if a.failed[linkOf(plan[i])] {
			continue
		}
		if err := a.apply(plan[i]); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", plan[i], err))
		}
	}
	return errors.Join(errs...)
}

// deletions returns the link deletions that the plan begins with.
func deletions(plan netstate.Plan) []netstate.LinkDel {
	var ops []netstate.LinkDel
	for _, op := range plan {
		del, ok := op.(netstate.LinkDel)
		if !ok {
			break
		}
		ops = append(ops, del)
	}
	return ops
}

// applier applies one plan.
type applier struct {
	n      *Namespace
	links  map[string]int32 // indexes found so far
	failed map[string]bool  // links that could not be made or set
}

func (a *applier) index(name string) (int32, error) {
	if index, ok := a.links[name]; ok {
		return index, nil
	}
	l, err := a.n.linkByName(name)
	if err != nil {
		return 0, fmt.Errorf("link %s: %w", name, err)
	}
	a.links[name] = l.index
	return l.index, nil
}

func (a *applier) apply(op netstate.Op) error {
	switch o := op.(type) {
	case netstate.LinkAdd:
		return a.mark(o.Link.Name, a.addLink(o.Link))
	case netstate.LinkSet:
		return a.mark(o.Name, a.setLink(o))
	case netstate.AddrAdd:
		return a.addAddr(o.Addr)
	case netstate.AddrDel:
		return a.delAddr(o.Addr)
	case netstate.NeighSet:
		return a.setNeigh(o.Neigh)
	case netstate.NeighDel:
		return a.delNeigh(o.Neigh)
	case netstate.RouteAdd:
		return a.addRoute(o.Route)
	case netstate.RouteReplace:
		return a.replaceRoute(o.Route)
	case netstate.RouteDel:
		return a.delRoute(o.Route)
	case netstate.RuleAdd:
		return a.addRule(o.Rule)
	case netstate.RuleDel:
		return a.delRule(o.Rule)
	case netstate.SysctlSet:
		return a.n.setSysctl(o.Sysctl)
	}
	return fmt.Errorf("unknown operation %T", op)
}

// mark remembers that a link cannot be used, so that its absence is told once. A link
// that is there but could not be given all is used all the same.
func (a *applier) mark(name string, err error) error {
	if errors.Is(err, ErrNoLink) || errors.Is(err, ErrLinkExists) {
		a.failed[name] = true
	} else if _, known := a.links[name]; err != nil && !known {
		a.failed[name] = true
	}
	return err
}

// linkOf returns the link that an operation adds something to, "" for none.
func linkOf(op netstate.Op) string {
	switch o := op.(type) {
	case netstate.AddrAdd:
		return o.Addr.Link
	case netstate.NeighSet:
		return o.Neigh.Link
	case netstate.RouteAdd:
		return o.Route.Link
	case netstate.RouteReplace:
		return o.Route.Link
	}
	return ""
}
