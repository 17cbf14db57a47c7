// Package topology turns intents (what a gateway routes, who a member is) into
// the desired kernel state of the namespaces concerned, as plain values.
//
// It promises to be pure: the same intent gives the same values, in a gateway that
// starts, one that restarts, a member that joins and one that is repaired. It must
// never read a clock, a file, a socket or the kernel.
//
// # Where the routes are
//
// Nothing of ours is in a member's main table. All tailnet prefixes, and for exit-node
// members the default routes, are in ident.TableMember, each with an unreachable route
// of worse metric behind it, so that traffic fails at once when the link is gone. Rules in
// front of that table keep cluster, link-local and multicast destinations, and replies to
// connections that came in on the pod's own interface, on main. So a route such as
// 10.0.0.0/8, which covers most clusters' own addresses, can be steered onto a member
// without taking its cluster away; in main it would win by prefix length against the pod's default route.
//
// # Where the gateway's address is
//
// The gateway's one address a family towards its members is on lo, not on each of
// up to 16,000 links: with permanent neighbour entries nobody asks for it, and as the preferred
// source of each member's route it is what ICMP errors come from.
package topology
