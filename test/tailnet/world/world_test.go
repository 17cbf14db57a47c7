//go:build linux

package world

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

const prefix = "tnw"

func newWorld(t *testing.T) (context.Context, *World) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // the kernel takes its time for namespaces while it removes many
	t.Cleanup(cancel)
	w, err := New(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, w
}

// reach sends a line from one host to another and back, over TCP.
func reach(ctx context.Context, from, to *Host, addr string) error {
	ln, err := to.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()+"\n")
			_ = c.Close()
		}
	}()
	c, err := from.Dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(line); got != from.V4.String() && got != from.V6.String() {
		return fmt.Errorf("%s came as %s", from.Name, got)
	}
	return nil
}

func TestHostsReachEachOther(t *testing.T) {
	ctx, w := newWorld(t)
	a, err := w.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.AddHost("b")
	if err != nil {
		t.Fatal(err)
	}
	internet, err := w.AddInternet()
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []*Host{b, internet} {
		for _, addr := range []string{to.V4.String(), to.V6.String()} {
			if err := reach(ctx, a, to, addr); err != nil {
				t.Errorf("%s to %s: %v", a.Name, addr, err)
			}
		}
	}
	if w.Host("b") != b || w.Host("c") != nil {
		t.Error("Host finds the wrong one")
	}
	if _, err := a.Dial(ctx, "tcp", "localhost:80"); err == nil {
		t.Error("a name was dialled")
	}
}

// TestJoin: who joins is reached by its own addresses and so is what is behind it, and comes as what it is. It may come back
// with another namespace.
func TestJoin(t *testing.T) {
	ctx, w := newWorld(t)
	internet, err := w.AddInternet()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := w.AddHost("peer")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ns, err := netns.NewAnonymous()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns.Close() })
		node := w.Adopt("node", ns)
		node.V4, node.V6 = netip.MustParseAddr("10.89.0.5"), netip.MustParseAddr("fc00:f853::5")
		pod := w.Adopt("pod", ns) // one namespace is enough to have both
		pod.V4, pod.V6 = netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")
		err = node.Do(func() error {
			var all []netip.Prefix
			for _, a := range []netip.Addr{node.V4, node.V6, pod.V4, pod.V6} {
				all = append(all, netip.PrefixFrom(a, a.BitLen()))
			}
			return configure("lo", all)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Join(node, "world0", netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			from, to *Host
			addr     netip.Addr
		}{
			{node, peer, peer.V4}, {node, peer, peer.V6}, {node, internet, internet.V4}, {node, internet, internet.V6},
			{peer, node, node.V4}, {internet, node, node.V6}, {peer, pod, pod.V4}, {internet, pod, pod.V6},
		} {
			if err := reach(ctx, x.from, x.to, x.addr.String()); err != nil {
				t.Errorf("%s to %s at %v: %v", x.from.Name, x.to.Name, x.addr, err)
			}
		}
	}
}

func TestCommandsRunInTheHost(t *testing.T) {
	ctx, w := newWorld(t)
	a, err := w.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Command(ctx, "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	id, err := a.Handle().ID()
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("net:[%d]\n", id.Ino); string(out) != want {
		t.Errorf("ran in %q, want %q", out, want)
	}
	if err := a.Command(ctx, "/nonexistent").Run(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("program that is not there: %v", err)
	}
	sleeper := a.Command(ctx, "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Stop(); err != nil || sleeper.ProcessState.Success() {
		t.Errorf("stopped: %v, %v", err, sleeper.ProcessState)
	}
}

func TestCloseRemovesAll(t *testing.T) {
	ctx, w := newWorld(t)
	a, err := w.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	sleeper := a.Command(ctx, "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.Path()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace after Close: %v", err)
	}
	select {
	case <-sleeper.Done():
	default:
		t.Error("a process outlived its world")
	}
}

func TestSweep(t *testing.T) {
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{ // name: is to be swept
		fmt.Sprintf("%s-%d-x", prefix, dead.Process.Pid):     true,
		fmt.Sprintf("%s-%d-x", prefix, os.Getpid()):          false,
		fmt.Sprintf("%s-other-%d-x", prefix, os.Getpid()):    false,
		fmt.Sprintf("other-%s-%d", prefix, dead.Process.Pid): false,
	}
	for name := range names {
		h, err := netns.NewNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(h.Close(), netns.DeleteNamed(name)); err != nil {
				t.Error(err)
			}
		})
	}
	if err := sweep(prefix); err != nil {
		t.Fatal(err)
	}
	for name, swept := range names {
		if _, err := os.Stat(namedDir + "/" + name); errors.Is(err, os.ErrNotExist) != swept {
			t.Errorf("%s: swept is not %v", name, swept)
		}
	}
}
