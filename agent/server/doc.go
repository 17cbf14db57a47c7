// Package server answers the CNI plugin on the node's unix socket (internal/cnirpc).
//
// It promises that only root is answered; that a request ends when its plugin has gone or its time is over; that an
// agent that starts takes the socket over in one step, so that a plugin always finds either the
// old agent or the new one; and that an agent that ends lets the requests under way finish first. It
// must never remove what is not a socket, nor a socket that is another agent's, and knows nothing
// of pods: what a request means is the [Handler]'s.
package server
