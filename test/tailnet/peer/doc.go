// Package peer is a real node of a test tailnet, or a host beside it, as a process of
// its own in a network namespace ([world.Host]): Tailscale's engine (tsnet) on a kernel TUN,
// in any mix of roles: plain peer, subnet router, exit node, 4via6 router, app connector.
//
// It promises that the namespace's own kernel carries the traffic: it answers pings on the
// tailnet addresses, forwards and masquerades what comes from the tailnet. The one exception is 4via6,
// which Tailscale itself always translates in its userspace stack, on Linux as well, and
// which therefore works here as in tailscaled.
//
// It must never be run in a namespace that matters: it sets sysctls, routes and nftables
// without asking. It stands alone in its process, since tsnet reads the environment.
package peer
