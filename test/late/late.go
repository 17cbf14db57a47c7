//go:build linux

// Package late plays a busy kernel, which puts an IPv6 address's local route in place some time after the address, for
// tests that say how long.
package late

import (
	"testing"

	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/script"
)

// LocalRoute takes the local route, "ADDRESS dev LINK", away, begins the change, and gives the route back when inPlace says that all else is as
// the change wants it. The test fails when the change ends before, or in an error.
func LocalRoute(t *testing.T, ns *netns.Handle, route string, change func() error, inPlace func() bool) {
	t.Helper()
	script.Run(t, ns, "ip -6 route del local "+route+" table local")
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	changed, err := k.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- change() }()
	for !inPlace() {
		<-changed
	}
	script.Run(t, ns, "ip link set lo alias other") // something else changes
	select {
	case err := <-ended:
		t.Fatalf("it did not wait for the local route %s: %v", route, err)
	default:
	}
	script.Run(t, ns, "ip -6 route add local "+route+" table local")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
