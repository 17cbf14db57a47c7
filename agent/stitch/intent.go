package stitch

import (
	"reflect"

	"github.com/rajsinghtech/tailgate/agent/joiner"
)

// intent is what is wanted of a member at one time.
type intent struct {
	gen   uint64
	where NetNS
	// leave: it is to be member of nothing; removed: and forgotten.
	leave, removed bool
	// why it is left alone for now; "": it is not.
	undecided string
	spec      joiner.Spec
	gw        *gateway // nil: there is none
	ready     bool
	// joined: it was applied with the gateway's namespace as the target.
	joined bool
}

// same reports whether i asks for what o asked for.
func (i intent) same(o intent) bool {
	return i.where.same(o.where) && i.gw == o.gw && i.joined == o.joined && reflect.DeepEqual(i.spec, o.spec)
}

// intent returns what is wanted of m now.
func (e *Engine) intent(m *member) intent {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := intent{gen: m.gen, where: m.want.NetNS, removed: m.removed, leave: m.removed}
	g := e.groups[m.want.Group]
	switch known := g != nil && g.want != nil; {
	case i.leave:
	case known:
		i.gw, i.ready = g.gw, g.ready
		i.spec = e.spec(m.want, g)
	case e.synced:
		i.leave = true
	case m.want.Group == "":
		i.undecided = "not everything is known yet; it will leave what it was in"
	default:
		i.undecided = "its group " + m.want.Group + " is not known yet"
	}
	return i
}

// spec returns what m is to be in g. The caller holds e.mu.
func (e *Engine) spec(m Member, g *group) joiner.Spec {
	s := joiner.Spec{
		ID: m.ID, Prefixes: g.steering.prefixes, Direct: g.steering.direct, Exit: g.steering.exit,
		Keep: joiner.Keep{
			// Without a gateway; while one is being opened the link stays in any case.
			Link:     !e.synced,
			Prefixes: !e.synced || g.want.Mirror && !g.learned.known,
			Direct:   !e.synced || g.want.Exit != nil && !g.learned.known,
		},
	}
	if g.want.MagicDNS {
		s.Resolvers, s.Redirect = m.Resolvers, g.ready
		s.Keep.Redirect = !g.told
	}
	return s
}
