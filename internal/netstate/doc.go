// Package netstate describes the links, addresses, neighbours, routes, rules and
// sysctls of one network namespace as plain values, and says what must change to
// get from one such description to another.
//
// It promises that applying Diff(have, want) to have gives want, and that
// Diff(want, want) is empty. What the kernel does of its own accord on the way
// (a link that goes takes its routes with it) is in the model that [Plan.Apply]
// runs; package kernel's tests hold the model against a real kernel.
//
// It knows no netlink and does no I/O; package kernel does.
package netstate
