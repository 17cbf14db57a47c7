//go:build linux

// Command labd keeps a lab: "labd supervise" from the outside, "labd machine" as process 1 of the
// control plane and of each node.
//
// It promises what package machine does. Package lab starts it; it is no use by itself, and must never
// know of Kubernetes.
package main
