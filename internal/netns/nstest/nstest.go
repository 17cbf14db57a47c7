//go:build linux

// Package nstest makes network namespaces for tests. It never touches a namespace
// that it did not make.
package nstest

import (
	"testing"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// New returns a new, empty network namespace that ends with the test. It needs root.
func New(tb testing.TB) *netns.Handle {
	tb.Helper()
	h, err := netns.NewAnonymous()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// NewNamed is as [New], with a name by which "ip netns exec" finds the namespace.
func NewNamed(tb testing.TB, name string) *netns.Handle {
	tb.Helper()
	h, err := netns.NewNamed(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
		if err := netns.DeleteNamed(name); err != nil {
			tb.Error(err)
		}
	})
	return h
}
