//go:build linux

package kernel

import (
	"fmt"
	"slices"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// dumpAllFrom is the number of links from which on one dump of everything is
// cheaper than one for each link.
const dumpAllFrom = 8

// Observe returns what of the namespace is in scope, as found: rules and routes
// that are there twice are there twice. Where the scope names all its links
// exactly, the cost does not grow with the number of other links.
func (n *Namespace) Observe(scope netstate.Scope) (netstate.State, error) {
	s, err := n.observe(scope)
	if err != nil {
		return netstate.State{}, fmt.Errorf("observe network namespace: %w", err)
	}
	return s, nil
}

func (n *Namespace) observe(scope netstate.Scope) (s netstate.State, err error) {
	links, err := n.matchingLinks(scope.Links, skipStats)
	if err != nil {
		return s, err
	}
	names := map[int32]string{}
	for _, l := range links {
		names[l.index] = l.described.Name
		s.Links = append(s.Links, l.described)
	}
	for _, index := range eachOrAll(links) {
		addrs, err := n.addrsOn(index, names, scope.Addrs)
		if err != nil {
			return s, err
		}
		neighs, err := n.neighsOn(index, names)
		if err != nil {
			return s, err
		}
		s.Addrs, s.Neighs = append(s.Addrs, addrs...), append(s.Neighs, neighs...)
	}
	if s.Routes, err = n.observeRoutes(scope, links, names); err != nil {
		return s, err
	}
	if s.Rules, err = n.observeRules(scope.RuleFirst, scope.RuleLast); err != nil {
		return s, err
	}
	s.Sysctls, err = n.sysctls(scope.Sysctls)
	return s, err
}

// eachOrAll returns the indexes to ask for: each link's, or 0 for all at once.
func eachOrAll(links []link) []int32 {
	if len(links) >= dumpAllFrom {
		return []int32{0}
	}
	indexes := make([]int32, 0, len(links))
	for _, l := range links {
		indexes = append(indexes, l.index)
	}
	return indexes
}

func (n *Namespace) observeRoutes(scope netstate.Scope, links []link, names map[int32]string) ([]netstate.Route, error) {
	if len(scope.Tables) == 0 {
		return nil, nil
	}
	oifs, allowed := []int32{0}, map[string]bool{}
	if len(scope.RouteLinks) > 0 {
		if !slices.Equal(scope.RouteLinks, scope.Links) {
			var err error
			if links, err = n.matchingLinks(scope.RouteLinks, skipStats); err != nil {
				return nil, err
			}
		}
		// A link that is down has no routes: the kernel took them away, and refuses new
		// ones. Not to ask matters to a namespace with many members, where the
		// kernel finds the routes of one link by looking at all.
		links = slices.DeleteFunc(slices.Clone(links), func(l link) bool { return !l.described.Up })
		oifs = eachOrAll(links)
		for _, l := range links {
			names[l.index] = l.described.Name
			allowed[l.described.Name] = true
		}
	}
	var routes []netstate.Route
	for _, table := range scope.Tables {
		for _, family := range families {
			for _, oif := range oifs {
				found, err := n.routes(family, table, oif, namer{n, names})
				if err != nil {
					return nil, err
				}
				for _, r := range found {
					if len(scope.RouteLinks) == 0 || allowed[r.Link] {
						routes = append(routes, r.Route)
					}
				}
			}
		}
	}
	return routes, nil
}

func (n *Namespace) observeRules(first, last int) ([]netstate.Rule, error) {
	if first == 0 && last == 0 {
		return nil, nil
	}
	var list []netstate.Rule
	for _, family := range families {
		found, err := n.rules(family)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if first <= r.Priority && r.Priority <= last {
				list = append(list, r.Rule)
			}
		}
	}
	return list, nil
}
