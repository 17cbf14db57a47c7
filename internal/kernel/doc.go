// Package kernel observes and changes a network namespace through netlink, in the
// terms of package netstate. It is the only package that speaks rtnetlink.
//
// It promises that Apply(Diff(Observe(scope), want)) leaves what want says; that
// whatever lies outside the scope is neither read as ours nor touched; that
// deleting the absent and adding the present succeed; that a sysctl which has the
// wanted value is never written; and that a dump which the kernel says was
// interrupted is never taken for an answer. All dumps go through one function.
//
// It must never start a program, and never switch a thread's namespace but through
// package netns.
//
// Links that it creates bear [ident.RouteProtocol] as their group, because
// that is in the message that creates both ends, while an alias cannot be: a pair
// whose maker died half-way is still known as ours, on either side. They get no IPv6
// link-local address (IN6_ADDR_GEN_MODE_NONE), so that there is no duplicate
// address detection and no router solicitation on them; each namespace sees to that
// for its own end.
package kernel
