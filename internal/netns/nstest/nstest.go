//go:build linux

// Package nstest makes network namespaces for tests. It never touches a namespace
// that it did not make.
package nstest

import (
	"bytes"
	"context"
	"os/exec"
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

// Run runs a shell script in the namespace and returns what it prints, without its complaints: while others make and end namespaces,
// iproute2 says of peers, in passing, that their reference is invalid. The test fails when the script does.
func Run(tb testing.TB, h *netns.Handle, script string) string {
	tb.Helper()
	// Cleanups run scripts, too.
	c := exec.CommandContext(context.WithoutCancel(tb.Context()), "sh", "-ec", script)
	var out, complaints bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaints
	if err := h.Do(c.Run); err != nil {
		tb.Fatalf("%s: %v\n%s%s", script, err, &complaints, &out)
	}
	return out.String()
}
