package netstate

import "net/netip"

// State is what one owner (see [Scope]) has, or wants, in one network namespace.
// The order within each list does not matter. The zero value is "nothing".
//
// A wanted state names each link, neighbour (link and IP), route (table, destination
// and metric) and sysctl once; of several the first in the order of [State.Sorted]
// counts. What it puts on a link needs that link: routes need it up. An observed
// state may hold what the kernel can hold: rules and routes twice over.
type State struct {
	Links   []Link
	Addrs   []Addr
	Neighs  []Neigh
	Routes  []Route
	Rules   []Rule
	Sysctls []Sysctl
}

// Kind says how a link comes to be.
type Kind string

// Kinds of link.
const (
	// Existing links are made by somebody else (a TUN by the process that holds it,
	// lo by the kernel): configured, never created, never deleted.
	Existing Kind = "existing"
	// Veth links are created with their peer and deleted with it.
	Veth Kind = "veth"
)

// Link is a network interface, known by its name.
type Link struct {
	Name string
	Kind Kind
	// Alias is IFLA_IFALIAS; "" leaves it alone. That of a Veth begins with
	// ident.AliasPrefix, or nobody would know it for ours.
	Alias string
	// MTU in bytes; 0 leaves it alone. The kernel takes IPv6 off a link whose MTU
	// falls below 1280 (RFC 8200, section 5), which no plan accounts for.
	MTU int
	// TxQueueLen in packets; 0 leaves it alone.
	TxQueueLen int
	// MAC as "02:…"; "" leaves it alone.
	MAC string
	// Up is the administrative state. An Existing link is set up when true and
	// otherwise left alone; a Veth is set as said.
	Up bool
	// Peer is the other end of a Veth, made with it, in the peer namespace that
	// the applier was given. Compared by nothing: the kernel tells the peer's
	// index, not its name; each end is observed in its own namespace.
	Peer Peer
}

// Peer is the other end of a veth at its creation.
type Peer struct {
	Name string
	MAC  string
	// Alias cannot be given in the message that creates the pair; the owner of
	// the peer's namespace sets it.
}

// Addr is an address on a link: a host address with its prefix length, as in
// "169.254.64.2/32". IPv6 addresses are made without duplicate address detection.
// An address brings no route to its prefix: routes are said as such.
type Addr struct {
	Link   string
	Prefix netip.Prefix
}

// Neigh is a permanent neighbour entry.
type Neigh struct {
	Link string
	IP   netip.Addr
	MAC  string
}

// RouteType is rtm_type, as ip-route(8) writes it.
type RouteType string

// Route types.
const (
	Unicast     RouteType = "unicast"
	Unreachable RouteType = "unreachable"
)

// Route is one route of ours (protocol ident.RouteProtocol).
type Route struct {
	Table int
	// Dst is masked; a default route is 0.0.0.0/0 or ::/0.
	Dst netip.Prefix
	// Metric must not be 0: the kernel would replace it for IPv6.
	Metric int
	Type   RouteType
	// Link is empty for Unreachable.
	Link string
	// Via is the next hop, taken to be on the link ("onlink"); zero: none.
	Via netip.Addr
	// Src is the preferred source, an address that the namespace has; zero: none.
	Src netip.Addr
	// Extra is what an observed route has beyond the fields above, in words; such a
	// route is none that we made. Always empty in a wanted route.
	Extra string
}

// Family is an address family of a rule, which has no address to tell it by.
type Family int

// Families.
const (
	V4 Family = 4
	V6 Family = 6
)

// Rule is one policy routing rule of ours (protocol ident.RouteProtocol): packets
// that match all that is set are looked up in Table.
type Rule struct {
	Family   Family
	Priority int
	Table    int
	// Mark and Mask are fwmark/mask; Mask 0 matches any mark.
	Mark, Mask uint32
	// Dst is masked; the zero value matches all.
	Dst netip.Prefix
	// Iif is the incoming link's name; "" matches all.
	Iif string
	// Extra is what an observed rule has beyond the fields above, in words; such a
	// rule is none that we made. Always empty in a wanted rule.
	Extra string
}

// Sysctl is a kernel parameter: Key is its path below /proc/sys, as in
// "net/ipv4/ip_forward". White space in Value counts as one space. What is not wanted any more is left as it is: nobody
// remembers what it was.
type Sysctl struct {
	Key, Value string
}

// Scope says which part of a namespace is an owner's. All else is never read as
// ours and never touched.
type Scope struct {
	// Links by name; a name that ends in "*" is a prefix. Only links that bear
	// ident.AliasPrefix or are named exactly (no star) count.
	// Their addresses inside Addrs and their permanent neighbours are ours.
	Links []string
	// Addrs limits the addresses that are ours on those links; empty: all but
	// IPv6 link-local ones, which the kernel makes.
	Addrs []netip.Prefix
	// Tables whose routes of our protocol are ours.
	Tables []int
	// RouteLinks limits those routes to the ones out by these links (patterns as
	// in Links); empty: all, and those without a link.
	RouteLinks []string
	// RuleFirst and RuleLast bound the priorities of rules of our protocol that
	// are ours; both 0: none.
	RuleFirst, RuleLast int
	// Sysctls that are ours to set, by key.
	Sysctls []string
}
