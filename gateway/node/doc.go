// Package node is the Tailscale node of a gateway: Tailscale's own engine on a
// kernel TUN, with the gateway's kernel and resolver in place of an operating system's.
//
// It promises that the node's identity (node key, disco key, UDP port), its TUN and the
// kernel state around it outlive the process, so that a gateway may die and come back under
// running connections; and that a preference that changes is applied to the running
// engine, never by a restart. It must never run another program, never log a secret, and
// never route: package dataplane does.
//
// # Why not tsnet
//
// tsnet.Server with a TUN moves packets, but replaces the preferences at each start (an exit node is
// lost until it is set again), makes a new disco key at each start (peers take seconds to
// notice), gives the engine a router that does nothing, and answers SERVFAIL for all names outside the
// tailnet. What it does inside is a few dozen lines; engine.go has them with those four put right.
package node
