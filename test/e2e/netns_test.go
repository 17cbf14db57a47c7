//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
)

// sh runs a shell command in a network namespace, and returns what it prints.
func sh(t *testing.T, ns *netns.Handle, command string) string {
	t.Helper()
	out, err := shell(t.Context(), ns, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func shell(ctx context.Context, ns *netns.Handle, command string) (string, error) {
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = exec.CommandContext(ctx, "sh", "-ec", command).CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return string(out), nil
}

// stateOf is all of a namespace that anybody configures: links, addresses, neighbours that do not age, rules, routes
// and nftables, without what counts, numbers that the kernel gives, and the slot of a member's link, which may be another when the
// link was made anew.
const stateOf = `{ ip -o link; ip -br addr; ip neigh show nud permanent; ip rule; ip -6 rule; ip route show table all
ip -6 route show table all | sed '/proto ra/d'; nft -s list ruleset; } | sed 's/^[0-9]*: //; s/ qdisc [^ ]*//; s/@if[0-9]*//; s/ link-netnsid [0-9]*//; s/  */ /g
s/02:74:67:01:[0-9a-f:]*/MAC/; s/169\.254\.64\.[0-9]*/MEMBER/g; s/fd2c:7d4a:91e6:7717::[0-9a-f]*/MEMBER/g; s/fe80::74:67ff:fe01:[0-9a-f]*/MEMBER/g; s/\<tg[0-9][0-9]*\>/tgN/g' | sort`

// state returns the configuration of a namespace as text, once the kernel has made sure that nobody else has its addresses
// (RFC 4862, section 5.4), a second or two after the links are up: until then it has no routes for them.
func state(t *testing.T, ns *netns.Handle) string {
	t.Helper()
	awaitNS(t, ns, 10*time.Second, "addresses in use", func() error {
		if tentative := sh(t, ns, "ip -6 -o addr show tentative"); tentative != "" {
			return fmt.Errorf("these are not yet: %s", tentative)
		}
		return nil
	})
	return sh(t, ns, stateOf)
}

// awaitNS waits until what is true of a namespace, looks again at each change of it, and returns how long it took.
func awaitNS(t *testing.T, ns *netns.Handle, limit time.Duration, what string, cond func() error) time.Duration {
	t.Helper()
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	changed, err := k.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err := cond()
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}

// hasState says whether a namespace has a state.
func hasState(t *testing.T, ns *netns.Handle, want string) func() error {
	t.Helper()
	return func() error {
		if got := sh(t, ns, stateOf); got != want {
			return fmt.Errorf("state (-want +got):\n%s", lineDiff(want, got))
		}
		return nil
	}
}

// lineDiff returns the lines of two texts that are in one of them only.
func lineDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "-"+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "+"+line)
		}
	}
	return strings.Join(out, "\n")
}

// processIn returns the process that runs a program in a network namespace.
func processIn(ns *netns.Handle, program string) (int, error) {
	id, err := ns.ID()
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || filepath.Base(exe) != program {
			continue
		}
		link, err := os.Readlink(dir + "/ns/net")
		var pid int
		if _, serr := fmt.Sscanf(dir, "/proc/%d", &pid); err == nil && serr == nil && link == fmt.Sprintf("net:[%d]", id.Ino) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no %s runs there", program)
}

// mustProcess is [processIn] for one that has to be there.
func mustProcess(t *testing.T, ns *netns.Handle, program string) int {
	t.Helper()
	pid, err := processIn(ns, program)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
