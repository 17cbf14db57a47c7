package ruleset

import (
	"reflect"
)

// Table is an nftables table of family inet. The order of chains and of rules
// matters.
type Table struct {
	// Name begins with a letter; letters, digits, "_" and "-" follow.
	Name   string
	Chains []Chain
	// Unknown is what [Conn.Observe] found in the table and cannot say otherwise:
	// table flags, named sets, objects. A table to apply has none.
	Unknown []string
}

// Type is the type of a base chain (nft(8), "CHAINS").
type Type string

// Chain types.
const (
	TypeFilter Type = "filter"
	// TypeNAT chains see the first packet of each connection only.
	TypeNAT Type = "nat"
	// TypeRoute chains, at the output hook, look the route up again when a packet's
	// mark has changed.
	TypeRoute Type = "route"
)

// Hook is where in the packet's way a base chain stands.
type Hook string

// Hooks.
const (
	HookPrerouting  Hook = "prerouting"
	HookInput       Hook = "input"
	HookForward     Hook = "forward"
	HookOutput      Hook = "output"
	HookPostrouting Hook = "postrouting"
)

// Priorities at which the kernel's own work, and other programs' chains, stand
// (enum nf_ip_hook_priorities in linux/netfilter_ipv4.h). Lower comes first.
const (
	// PriorityRaw is before connection tracking (-200).
	PriorityRaw = -300
	// PriorityMangle is where marks are set, before the routing decision.
	PriorityMangle = -150
	// PriorityDNAT is that of destination NAT.
	PriorityDNAT = -100
	// PriorityFilter is that of packet filters.
	PriorityFilter = 0
	// PrioritySNAT is that of source NAT and masquerade.
	PrioritySNAT = 100
)

// Policy is what happens to a packet that reaches the end of a base chain.
type Policy string

// Policies.
const (
	PolicyAccept Policy = "accept"
	PolicyDrop   Policy = "drop"
)

// Chain is a base chain.
type Chain struct {
	// Name is written as a table's name.
	Name string
	Type Type
	Hook Hook
	// Priority orders chains at one hook; the constants above, or near them.
	Priority int
	Policy   Policy
	Rules    []Rule
	// Unknown says what [Conn.Observe] found of a chain that is not a base chain as
	// described here. A chain to apply has none.
	Unknown string
}

// Rule acts on the packets that all its matches match.
type Rule struct {
	// Matches are evaluated in order; none matches every packet.
	Matches []Match
	// Action; the zero value does nothing, the packet goes on to the next rule.
	Action Action
	// Counter counts the packets and bytes that matched.
	Counter bool
	// Comment is kept in the rule (nft shows it) and is the label of its counter;
	// at most 127 bytes, without quotes.
	Comment string
	// Unknown names the expressions of a rule that [Conn.Observe] found and that this
	// package does not write. Such a rule equals no other, not even itself.
	Unknown string
}

// Family is an address family as nft writes it.
type Family string

// Address families.
const (
	V4 Family = "ipv4"
	V6 Family = "ipv6"
)

// families are the address families in the order of the kernel rules that a rule becomes.
func families() []Family { return []Family{V4, V6} }

// Equal says whether a and b make the same kernel rules in the same chains,
// whatever way they are written down; values of counters do not matter. What is Unknown
// is never equal.
func Equal(a, b Table) bool {
	if a.Name != b.Name || len(a.Chains) != len(b.Chains) || len(a.Unknown)+len(b.Unknown) > 0 {
		return false
	}
	for i := range a.Chains {
		if !equalChains(a.Chains[i], b.Chains[i]) {
			return false
		}
	}
	return true
}

func equalChains(a, b Chain) bool {
	if a.Name != b.Name || a.Type != b.Type || a.Hook != b.Hook ||
		a.Priority != b.Priority || a.Policy != b.Policy || a.Unknown+b.Unknown != "" {
		return false
	}
	fa, fb := flattenAll(a.Rules), flattenAll(b.Rules)
	if len(fa) != len(fb) {
		return false
	}
	for i := range fa {
		if !fa[i].equal(fb[i]) {
			return false
		}
	}
	return true
}

func (f flat) equal(g flat) bool {
	if f.unknown+g.unknown != "" || len(f.matches) != len(g.matches) {
		return false
	}
	for i := range f.matches {
		if !reflect.DeepEqual(f.matches[i], g.matches[i]) {
			return false
		}
	}
	return f.family == g.family && f.action == g.action && f.counter == g.counter && f.comment == g.comment
}
