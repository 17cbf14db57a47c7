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
//
// # Where names are looked up
//
// A member keeps its cluster's resolver in its resolv.conf. For MagicDNS its queries
// to that resolver get another destination on their way out, inside its namespace: the tailnet's resolver, which
// answers at the gateway and forwards what the tailnet does not know to the cluster's. Their source becomes the member's
// address on its link, for the gateway knows no way back to any other. The connections bear [MarkDNS], so that
// they can be told, and forgotten, when the redirection ends: conntrack would go on translating them.
package topology
