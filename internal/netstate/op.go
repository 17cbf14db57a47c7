package netstate

import (
	"fmt"
	"strings"
)

// Op is one change of a namespace: one of the types below, which say all there is
// to know for making it.
type Op interface {
	fmt.Stringer
	apply(m *model) error
}

// LinkAdd creates a [Veth] and its peer with all that the Link says.
type LinkAdd struct{ Link Link }

// LinkSet changes a link that is there. Zero values change nothing.
type LinkSet struct {
	Name            string
	Alias           string
	MTU, TxQueueLen int
	MAC             string
	Up, Down        bool
}

// LinkDel deletes a [Veth] with its peer and everything on both.
type LinkDel struct{ Name string }

// AddrAdd adds an address.
type AddrAdd struct{ Addr Addr }

// AddrDel removes an address.
type AddrDel struct{ Addr Addr }

// NeighSet adds a permanent neighbour entry, or replaces the one of that IP.
type NeighSet struct{ Neigh Neigh }

// NeighDel removes a permanent neighbour entry.
type NeighDel struct{ Neigh Neigh }

// RouteAdd adds a route where there is none of its table, destination and metric.
type RouteAdd struct{ Route Route }

// RouteReplace puts a route in the place of one with the same table, destination
// and metric, with no moment in between; where there is none it adds it.
type RouteReplace struct{ Route Route }

// RouteDel removes a route, or one copy of it.
type RouteDel struct{ Route Route }

// RuleAdd adds a rule.
type RuleAdd struct{ Rule Rule }

// RuleDel removes a rule, or one copy of it.
type RuleDel struct{ Rule Rule }

// SysctlSet writes a kernel parameter.
type SysctlSet struct{ Sysctl Sysctl }

// String returns the operation in the words of ip(8).
func (o LinkAdd) String() string { return "link add " + o.Link.String() }

// String returns the operation in the words of ip(8).
func (o LinkSet) String() string {
	s := words("link set "+o.Name, "alias", quoted(o.Alias), "mtu", o.MTU, "txqueuelen", o.TxQueueLen, "address", o.MAC)
	if o.Up {
		s += " up"
	}
	if o.Down {
		s += " down"
	}
	return s
}

// String returns the operation in the words of ip(8).
func (o LinkDel) String() string { return "link del " + o.Name }

// String returns the operation in the words of ip(8).
func (o AddrAdd) String() string { return "addr add " + o.Addr.String() }

// String returns the operation in the words of ip(8).
func (o AddrDel) String() string { return "addr del " + o.Addr.String() }

// String returns the operation in the words of ip(8).
func (o NeighSet) String() string { return "neigh replace " + o.Neigh.String() }

// String returns the operation in the words of ip(8).
func (o NeighDel) String() string { return "neigh del " + o.Neigh.String() }

// String returns the operation in the words of ip(8).
func (o RouteAdd) String() string { return "route add " + o.Route.String() }

// String returns the operation in the words of ip(8).
func (o RouteReplace) String() string { return "route replace " + o.Route.String() }

// String returns the operation in the words of ip(8).
func (o RouteDel) String() string { return "route del " + o.Route.String() }

// String returns the operation in the words of ip(8).
func (o RuleAdd) String() string { return "rule add " + o.Rule.String() }

// String returns the operation in the words of ip(8).
func (o RuleDel) String() string { return "rule del " + o.Rule.String() }

// String returns the operation in the words of sysctl(8).
func (o SysctlSet) String() string { return "sysctl " + o.Sysctl.String() }

// Plan is a list of operations, to be done in order.
type Plan []Op

// Empty says that there is nothing to do.
func (p Plan) Empty() bool { return len(p) == 0 }

// String returns the plan as text, one operation a line; "" when it is empty.
func (p Plan) String() string {
	var b strings.Builder
	for _, op := range p {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Apply returns, in canonical order, what s becomes when a kernel does what the
// plan says. It stops at the first operation that a kernel would refuse. Where the
// kernel's answer depends on what is not in s (addresses of others), the
// model takes the worse: an address that may go with another goes.
func (p Plan) Apply(s State) (State, error) {
	m := newModel(s)
	for _, op := range p {
		if err := op.apply(m); err != nil {
			return State{}, fmt.Errorf("%v: %w", op, err)
		}
	}
	return m.state(), nil
}
