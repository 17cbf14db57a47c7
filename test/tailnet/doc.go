// Package tailnet is a whole tailnet in one process, for tests and demonstrations:
// the control plane that nodes log in to, a DERP relay, a STUN server and the part
// of Tailscale's HTTP API v2 that tailgate uses. Nodes are real (package peer).
//
// It promises to answer a node as the real control plane does, as far as nodes can
// tell: several auth keys with tags, limits and the real refusals; route approval
// with one primary router a prefix; a packet filter compiled for each node, peers pruned
// to those that may talk; changes sent as deltas on the open map stream; deleted nodes
// answered with 404, expired ones sent back to log in, tags changed while they run. Beyond that it fails
// on demand: frozen, refusing, or with scripted API faults.
//
// The control plane is its own small Noise server (ts2021) and not Tailscale's
// testcontrol, since that has one auth key, no deletion (and gives the
// next node an address that is taken), and no way for a caller to see a register
// request, nor to hand one in: the machine key travels in a private context key.
//
// An [Organization] stands in front of it as Tailscale's does: by its API a tailnet is made, with an OAuth client, a policy file
// to follow, and deleted.
//
// It must never speak to anything that is not a node or a client of its own: no
// default DERP regions, no log upload, no name resolution.
package tailnet
