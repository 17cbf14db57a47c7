//go:build linux

// Command lab starts, ends, inspects and torments Kubernetes clusters on this machine; see package lab.
//
// It promises to say in a sentence what is wrong when it cannot do what it is told, and to leave a lab that
// it could not start without a trace. It must be run as root, in tailgate's source tree.
package main
