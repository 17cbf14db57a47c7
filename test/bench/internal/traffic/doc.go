//go:build linux

// Package traffic sends what the benches measure with: TCP streams, datagrams and pings from one network namespace to
// another, each end a process of its own.
//
// It promises that what is counted is what arrived, told by who received it, and that every job ends, at its limit at
// the latest. It must never leave a process behind: workers end with the program that started them.
package traffic
