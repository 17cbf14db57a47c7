// Package userspace is a real node of a test tailnet within the calling process: Tailscale's engine on its own
// network stack (tsnet), without a TUN and without any privilege, where package peer would need a namespace and root.
//
// It promises to answer by itself for every address that it routes: its own, every host of the subnets that it
// advertises and, as an exit node, every address of the internet. So a subnet needs no hosts, and an exit node no
// internet. Pings reach its own addresses only. It must never open a connection of its own to what it routes.
package userspace
