//go:build linux

// Package script runs shell scripts in network namespaces, for tests: iproute2 and nft tamper and look there, so that the code under test is
// not its own witness. It is not in nstest, since nothing outside test runs other programs.
package script

import (
	"bytes"
	"context"
	"os/exec"
	"testing"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

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
