// Package snapshot is what a gateway says of itself to its node's agent: a plain value,
// and the HTTP over a unix socket that carries it.
//
// It promises that a follower always gets the newest value, perhaps not every one
// between. A snapshot must never hold a secret: it ends up in Kubernetes objects and on debug pages.
package snapshot
