//go:build linux

package stitch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/script"
)

// limit is how long a test waits for what must come. A busy machine gets time; where speed is the promise,
// the test looks at the clock itself.
const limit = time.Minute

func prefixes(s ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range s {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

// lab is an engine under test, and its news.
type lab struct {
	*Engine
	mu   sync.Mutex
	news chan struct{} // closed when a status has changed
	seen map[string][]State
}

// newLab makes an engine that is closed at the end.
func newLab(tb testing.TB) *lab {
	tb.Helper()
	l := &lab{news: make(chan struct{}), seen: map[string][]State{}}
	l.Engine = New(Options{Changed: l.changed, GroupChanged: func(string) { l.told() }, Logger: slog.New(slog.DiscardHandler)})
	tb.Cleanup(l.Close)
	return l
}

func (l *lab) changed(s Status) {
	l.mu.Lock()
	l.seen[s.ID] = append(l.seen[s.ID], s.State)
	l.mu.Unlock()
	l.told()
}

func (l *lab) told() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.news)
	l.news = make(chan struct{})
}

// await waits until the engine's report is as wanted, and returns it.
func (l *lab) await(tb testing.TB, what string, cond func(Report) bool) Report {
	tb.Helper()
	deadline := time.After(limit)
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		r := l.Snapshot()
		if cond(r) {
			return r
		}
		select {
		case <-news:
		case <-deadline:
			tb.Fatalf("%s: not reached; last: %+v", what, r)
		}
	}
}

// member returns a member's status; ok is false when the engine does not know it.
func (r Report) member(id string) (Status, bool) {
	for _, s := range r.Members {
		if s.ID == id {
			return s, true
		}
	}
	return Status{}, false
}

// awaitState waits for the member "a", of which most tests have just one.
func (l *lab) awaitState(tb testing.TB, state State) Status {
	tb.Helper()
	r := l.await(tb, fmt.Sprintf("member a %s", state), func(r Report) bool {
		s, _ := r.member("a")
		return s.State == state
	})
	s, _ := r.member("a")
	return s
}

func (l *lab) awaitForgotten(tb testing.TB, id string) {
	tb.Helper()
	l.await(tb, "member "+id+" forgotten", func(r Report) bool {
		_, ok := r.member(id)
		return !ok
	})
}

// wait is the way of the CNI plugin: it must come to an end that is settled.
func (l *lab) wait(tb testing.TB, id string) Status {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	s, err := l.Wait(ctx, id)
	if err != nil || ctx.Err() != nil {
		tb.Fatalf("wait for %s: %+v, %v", id, s, err)
	}
	return s
}

// inPlace fails the test when anything of a joined member is not as wanted, on either side.
func (l *lab) inPlace(tb testing.TB, id string) {
	tb.Helper()
	i, err := l.Inspect(id)
	if err != nil {
		tb.Fatal(err)
	}
	if !i.InPlace() || i.Slot == 0 {
		tb.Errorf("member %s, slot %d: left to do\n%s%s\ntable\n%s\nwanted\n%s", id, i.Slot, i.Member.Plan, i.Gateway.Plan, i.ObservedTable, i.DesiredTable)
	}
}

var serial atomic.Int64

// newNS makes a namespace that has a path.
func newNS(tb testing.TB) (*netns.Handle, NetNS) {
	tb.Helper()
	name := fmt.Sprintf("stitch-%d-%d", os.Getpid(), serial.Add(1))
	h := nstest.NewNamed(tb, name)
	id, err := h.ID()
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, h, "ip link set lo up") // as runtimes do
	return h, NetNS{Path: "/run/netns/" + name, ID: id}
}

// unlink takes the path of a namespace away, as a runtime does when a pod ends. The handle keeps the namespace alive.
func unlink(tb testing.TB, where NetNS) {
	tb.Helper()
	if err := netns.DeleteNamed(where.Path[len("/run/netns/"):]); err != nil {
		tb.Fatal(err)
	}
}

// run runs a shell script in the namespace and returns what it prints.
func run(tb testing.TB, h *netns.Handle, line string) string {
	tb.Helper()
	return script.Run(tb, h, line)
}

// linkIndex tells one link from another of the same name; 0: there is none.
func linkIndex(tb testing.TB, h *netns.Handle) string {
	tb.Helper()
	return run(tb, h, "cat /sys/class/net/"+ident.MemberLink+"/ifindex 2>/dev/null || ip -o link show "+ident.MemberLink+" | cut -d: -f1")
}

// links are the names of the links in a namespace, lo apart.
func links(tb testing.TB, h *netns.Handle) string {
	tb.Helper()
	return run(tb, h, "ip -o link | cut -d' ' -f2 | cut -d@ -f1 | tr -d : | grep -v '^lo$' || true")
}

// nothingLeft fails the test when anything of ours is in a member's namespace.
func nothingLeft(tb testing.TB, h *netns.Handle) {
	tb.Helper()
	for what, script := range map[string]string{
		"link":  "ip -o link show ts0 2>/dev/null || true",
		"route": "ip route show table 7717 2>/dev/null; ip -6 route show table 7717 2>/dev/null; true",
		"rule":  "ip rule | grep ^77 || true; ip -6 rule | grep ^77 || true",
		"table": "nft list tables",
	} {
		if out := run(tb, h, script); out != "" {
			tb.Errorf("left in the member, %s: %s", what, out)
		}
	}
}

// running is what a gateway says that is on its tailnet.
func ready(routes ...string) *snapshot.Snapshot {
	return &snapshot.Snapshot{BackendState: "Running", Ready: true, Routes: prefixes(routes...)}
}

// writes is a socket that has all that is changed in a namespace, from its making on, to tell.
type writes int

func listen(tb testing.TB, h *netns.Handle) []writes {
	tb.Helper()
	var all []writes
	err := h.Do(func() error {
		for protocol, groups := range map[int]uint32{unix.NETLINK_ROUTE: ^uint32(0), unix.NETLINK_NETFILTER: 1 << (unix.NFNLGRP_NFTABLES - 1)} {
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
			if err != nil {
				return err
			}
			all = append(all, writes(fd))
			if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, w := range all {
			_ = unix.Close(int(w))
		}
	})
	return all
}

// count returns how many messages there are. The kernel puts them there before it answers the writer.
func count(tb testing.TB, all []writes) (n int) {
	tb.Helper()
	buf := make([]byte, 1<<16)
	for _, w := range all {
		for {
			_, _, err := unix.Recvfrom(int(w), buf, 0)
			if err == unix.EAGAIN {
				break
			}
			if err != nil && err != unix.ENOBUFS {
				tb.Fatal(err)
			}
			n++
		}
	}
	return n
}

func addrs(s ...string) []netip.Addr {
	var as []netip.Addr
	for _, a := range s {
		as = append(as, netip.MustParseAddr(a))
	}
	return as
}
