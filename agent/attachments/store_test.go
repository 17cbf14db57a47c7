package attachments_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

func TestFilesComeAndGo(t *testing.T) {
	n := newNode(t)
	old, late := claim("old", "c1"), claim("late", "c2")
	old.IPs, old.MTU = []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00::7")}, 1450
	nsOld := n.ns(t, "c1")
	n.write(t, old)
	n.run(t)
	if got, ok := n.store.Lookup("old-uid"); !ok || diff(n.attached(t, old, nsOld), got) != "" {
		t.Errorf("a pod from before is not known at once (-want +got):\n%s", diff(n.attached(t, old, nsOld), got))
	}
	nsLate := n.ns(t, "c2")
	n.write(t, late)
	n.waitFor(t, n.attached(t, late, nsLate))
	if d := diff([]attachments.Attachment{n.attached(t, late, nsLate), n.attached(t, old, nsOld)}, n.store.List()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	n.remove(t, old)
	n.waitGone(t, "old-uid")
	if _, _, err := n.store.Open("old-uid"); !errors.Is(err, attachments.ErrNone) {
		t.Errorf("open of a pod that is gone: %v", err)
	}
	n.waitFor(t, n.attached(t, late, nsLate))
	if d := diff(attachments.Stats{Files: 1, Pods: 1}, n.store.Stats()); d != "" {
		t.Errorf("stats (-want +got):\n%s", d)
	}
}

func TestOpenIsTheNamespace(t *testing.T) {
	n := newNode(t)
	ns := n.ns(t, "c1")
	n.write(t, claim("a", "c1"))
	n.run(t)
	h, a, err := n.store.Open("a-uid")
	must(t, err)
	defer h.Close()
	if id(t, h) != id(t, ns) || a.ID != id(t, ns) {
		t.Errorf("opened %v, said %v, want %v", id(t, h), a.ID, id(t, ns))
	}
	flags, err := unix.FcntlInt(uintptr(h.FD()), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v: want FD_CLOEXEC", flags, err)
	}
	n.store.Close() // the handle is the caller's
	must(t, h.Do(func() error { return nil }))
}

// TestRecycledPath: a path that leads to another namespace than before is not the pod's, even when
// nobody notices and the runtime's file still names it.
func TestRecycledPath(t *testing.T) {
	for name, recycle := range map[string]func(n *node, ns *netns.Handle){
		"unseen": func(n *node, ns *netns.Handle) { // mounting makes no event
			path := filepath.Join(n.root, "run/netns/c1")
			must(t, unix.Unmount(path, unix.MNT_DETACH))
			mount(t, path, ns)
		},
		"seen": func(n *node, ns *netns.Handle) {
			n.unbind(t, "c1")
			n.waitGone(t, "a-uid")
			n.bind(t, "c1", ns)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			ns, err := netns.NewAnonymous()
			must(t, err)
			n.bind(t, "c1", ns)
			n.write(t, claim("a", "c1"))
			n.run(t)
			first := n.attached(t, claim("a", "c1"), ns)
			n.waitFor(t, first)
			must(t, ns.Close()) // from here on only the store keeps it

			second := nstest.New(t)
			recycle(n, second)
			if a, ok := n.store.Lookup("a-uid"); ok {
				t.Fatalf("the path leads to %v now; said %+v", id(t, second), a)
			}
			if _, _, err := n.store.Open("a-uid"); !errors.Is(err, attachments.ErrNone) {
				t.Fatalf("opened what the path leads to now: %v", err)
			}
			// The pod whose it is now is found, and the old one is not, whatever happens there.
			other := claim("b", "c2")
			other.NetNS = "/var/run/netns/c1"
			n.write(t, other)
			n.waitFor(t, n.attached(t, other, second))
			n.ns(t, "c3")
			n.write(t, claim("barrier", "c3"))
			n.wait(t, "barrier", func() bool { return n.knows("barrier-uid") })
			if n.knows("a-uid") {
				t.Error("the old file is believed again")
			}
			// A newer file of the same container is.
			n.remove(t, other)
			n.waitGone(t, "b-uid")
			n.write(t, claim("a", "c1"))
			n.waitFor(t, n.attached(t, claim("a", "c1"), second))
		})
	}
}

// TestRecycledPathAtStart: nobody was there to see what the path led to before.
func TestRecycledPathAtStart(t *testing.T) {
	n := newNode(t)
	ns := n.ns(t, "c1")
	now := claim("b", "c2")
	now.NetNS = "/run/netns/c1"
	n.writeAt(t, claim("a", "c1"), 10)
	n.writeAt(t, now, 5)
	n.run(t)
	if d := diff([]attachments.Attachment{n.attached(t, now, ns)}, n.store.List()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
}

func TestNamespaceGoesBeforeTheFile(t *testing.T) {
	n := newNode(t)
	n.ns(t, "c1")
	n.write(t, claim("a", "c1"))
	n.run(t)
	n.unbind(t, "c1")
	n.wait(t, "told of it", func() bool { return len(n.store.List()) == 0 })
}

func TestNewestSandboxWins(t *testing.T) {
	n := newNode(t)
	ns := map[string]*netns.Handle{"c1": n.ns(t, "c1"), "c2": n.ns(t, "c2"), "c3": n.ns(t, "c3")}
	n.writeAt(t, claim("a", "c2"), 20)
	n.writeAt(t, claim("a", "c1"), 10)
	n.run(t)
	n.waitFor(t, n.attached(t, claim("a", "c1"), ns["c1"]))
	n.write(t, claim("a", "c3"))
	n.waitFor(t, n.attached(t, claim("a", "c3"), ns["c3"]))
	n.unbind(t, "c3")
	n.waitFor(t, n.attached(t, claim("a", "c1"), ns["c1"]))
	n.remove(t, claim("a", "c1"))
	n.waitFor(t, n.attached(t, claim("a", "c2"), ns["c2"]))
}

// TestMultus: all attachments of a container are one sandbox.
func TestMultus(t *testing.T) {
	n := newNode(t)
	ns := n.ns(t, "c1")
	eth0, net1, net2 := claim("a", "c1"), claim("a", "c1"), claim("a", "c1")
	net1.IfName, net1.IPs = "net1", []netip.Addr{netip.MustParseAddr("192.168.7.1")}
	net2.IfName = "net2"
	n.writeAt(t, net2, 3)
	n.writeAt(t, net1, 2)
	n.run(t)
	n.waitFor(t, n.attached(t, net1, ns))
	n.writeAt(t, eth0, 1)
	n.waitFor(t, n.attached(t, eth0, ns))
	told := n.toldOf("a-uid")
	n.remove(t, net2)
	n.ns(t, "c2")
	n.write(t, claim("barrier", "c2"))
	n.wait(t, "barrier", func() bool { return n.knows("barrier-uid") })
	if n.toldOf("a-uid") != told {
		t.Error("an attachment that does not matter went, and that was told")
	}
	n.remove(t, eth0)
	n.waitFor(t, n.attached(t, net1, ns))
	n.remove(t, net1)
	n.waitGone(t, "a-uid")
}

func TestAddIsSoonerThanTheFile(t *testing.T) {
	n := newNode(t)
	n.run(t)
	ns := n.ns(t, "c1")
	c := claim("a", "c1")
	must(t, n.store.Add(c))
	if got, ok := n.store.Lookup("a-uid"); !ok || diff(n.attached(t, c, ns), got) != "" {
		t.Fatalf("after Add (-want +got):\n%s", diff(n.attached(t, c, ns), got))
	}
	c.IPs = []netip.Addr{netip.MustParseAddr("10.244.1.7")}
	n.write(t, c)
	n.waitFor(t, n.attached(t, c, ns))
	// The file has taken the place of what was said: the runtime takes it back by removing the file.
	n.remove(t, c)
	n.waitGone(t, "a-uid")
}

func TestAddWithoutAFile(t *testing.T) {
	n := newNode(t)
	n.run(t)
	ns := n.ns(t, "c1")
	must(t, n.store.Add(claim("a", "c1")))
	n.waitFor(t, n.attached(t, claim("a", "c1"), ns))
	n.unbind(t, "c1") // the chain failed after us, and DEL did not reach us
	n.wait(t, "told of it", func() bool { return len(n.store.List()) == 0 })
}

func TestDelete(t *testing.T) {
	n := newNode(t)
	ns := n.ns(t, "c1")
	c := claim("a", "c1")
	n.write(t, c)
	n.run(t)
	n.store.Delete("c1", "net1") // another attachment
	n.waitFor(t, n.attached(t, c, ns))
	n.store.Delete("c1", "eth0")
	if n.knows("a-uid") {
		t.Fatal("after DEL the file still counts")
	}
	n.store.Delete("c1", "eth0")
	n.store.Delete("never", "eth0")
	must(t, n.store.Add(c))
	n.waitFor(t, n.attached(t, c, ns))
	n.store.Delete("c1", "eth0")
	n.writeAt(t, c, 0)
	n.waitFor(t, n.attached(t, c, ns))
	n.store.Delete("c1", "eth0")
	hourAgo := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(n.file(c), hourAgo, hourAgo)) // an event, but nothing newer
	n.ns(t, "c2")
	n.write(t, claim("barrier", "c2"))
	n.wait(t, "barrier", func() bool { return n.knows("barrier-uid") })
	if n.knows("a-uid") {
		t.Error("after DEL the file counts again")
	}
}

// TestDeletedAreForgotten: what was deleted is remembered only for as long as a file may speak of it.
func TestDeletedAreForgotten(t *testing.T) {
	n := newNode(t)
	n.ns(t, "c1")
	n.writeAt(t, claim("a", "c1"), 10)
	n.store.Look()
	n.store.Delete("c1", "eth0")
	for i := range 5 {
		n.store.Delete(fmt.Sprint("gone", i), "eth0")
	}
	n.store.Voided(2 * time.Minute)
	n.store.Delete("last", "eth0")
	if got := n.store.Voided(0); got != 2 {
		t.Errorf("%d are remembered, want the one with a file and the last", got)
	}
	n.store.Look()
	if n.knows("a-uid") {
		t.Error("the file counts again")
	}
}

func TestAddRefuses(t *testing.T) {
	n := newNode(t)
	own, err := netns.Current()
	must(t, err)
	defer own.Close()
	n.bind(t, "own", own)
	must(t, os.WriteFile(filepath.Join(n.root, "run/netns/file"), nil, 0o600))
	for _, tt := range []struct {
		name   string
		change func(*attachments.Claim)
		is     error
		text   string
	}{
		{"nothing there", func(c *attachments.Claim) { c.NetNS = "/var/run/netns/none" }, fs.ErrNotExist, "run/netns/none"},
		{"a file", func(c *attachments.Claim) { c.NetNS = "/run/netns/file" }, netns.ErrNotNetNS, "HostToContainer"},
		{"the node's namespace", func(c *attachments.Claim) { c.NetNS = "/run/netns/own" }, nil, "it is the namespace that tailgate itself runs in"},
		{"a process'", func(c *attachments.Claim) { c.NetNS = "/proc/1/ns/net" }, nil, "is that of a process"},
		{"a process' in disguise", func(c *attachments.Claim) { c.NetNS = "/run/../proc/1/ns/net" }, nil, "is that of a process"},
		{"relative", func(c *attachments.Claim) { c.NetNS = "run/netns/own" }, nil, `"run/netns/own", is not absolute`},
		{"no UID", func(c *attachments.Claim) { c.PodUID = "" }, nil, "the pod's UID"},
		{"odd UID", func(c *attachments.Claim) { c.PodUID = "a b" }, nil, "the pod's UID"},
		{"long ID", func(c *attachments.Claim) { c.ContainerID = strings.Repeat("x", 300) }, nil, "the container ID"},
		{"no interface", func(c *attachments.Claim) { c.IfName = "" }, nil, "the interface's name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := claim("a", "c1")
			tt.change(&c)
			err := n.store.Add(c)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v\nwant one with %q", err, tt.text)
			}
			if list := n.store.List(); len(list) > 0 {
				t.Errorf("refused, and yet known: %+v", list)
			}
		})
	}
}

func TestFileOfTheNodesNamespace(t *testing.T) {
	n := newNode(t)
	own, err := netns.Current()
	must(t, err)
	defer own.Close()
	n.bind(t, "c1", own)
	n.write(t, claim("a", "c1"))
	n.run(t)
	if n.knows("a-uid") {
		t.Error("the node's namespace is taken for a pod's")
	}
	if p := n.store.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), "tailgate itself") {
		t.Errorf("problems %v", p)
	}
}

func TestClosed(t *testing.T) {
	n := newNode(t)
	n.ns(t, "c1")
	must(t, n.store.Add(claim("a", "c1")))
	n.store.Close()
	n.store.Close()
	n.store.Delete("c1", "eth0")
	if n.knows("a-uid") || n.store.Add(claim("a", "c1")) == nil {
		t.Error("a closed store knows pods")
	}
}

// TestDescriptors: no namespace is kept open for longer than its pod is there.
func TestDescriptors(t *testing.T) {
	n := newNode(t)
	var claims []attachments.Claim
	for _, c := range []string{"c1", "c2", "c3", "c4"} {
		n.ns(t, c)
		claims = append(claims, claim("pod-"+c, c))
	}
	n.run(t)
	running := descriptors(t)
	for range 3 {
		for _, c := range claims {
			must(t, n.store.Add(c), n.store.Add(c))
			c.MTU = 1400
			n.write(t, c)
		}
		n.wait(t, "four files", func() bool { return n.store.Stats().Files == 4 })
		if got := descriptors(t); got != running+4 {
			t.Fatalf("%d descriptors for four namespaces", got-running)
		}
		n.store.Delete("c1", "eth0")
		for _, c := range claims {
			n.remove(t, c)
		}
		n.wait(t, "no files", func() bool { return n.store.Stats() == attachments.Stats{} })
	}
	if got := descriptors(t); got != running {
		t.Errorf("%d descriptors are left", got-running)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}
