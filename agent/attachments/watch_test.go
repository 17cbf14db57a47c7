package attachments_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/agent/attachments"
)

// TestFolders: the cache's folder, and all above it, come, go and are replaced.
func TestFolders(t *testing.T) {
	n := newNode(t)
	n.run(t)
	if p := n.store.Problems(); len(p) > 0 {
		t.Errorf("that nothing is there is a problem: %v", p)
	}
	ns := n.ns(t, "c1")
	a := claim("a", "c1")
	n.write(t, a) // makes the folder
	n.waitFor(t, n.attached(t, a, ns))

	must(t, os.RemoveAll(n.dir()))
	n.waitGone(t, "a-uid")
	n.write(t, a)
	n.waitFor(t, n.attached(t, a, ns))

	for _, folder := range []string{n.dir(), n.cache, filepath.Join(n.root, "var")} {
		must(t, os.Rename(folder, folder+".old"))
		n.waitGone(t, "a-uid")
		must(t, os.Rename(folder+".old", folder))
		n.waitFor(t, n.attached(t, a, ns))
	}

	// Another folder in its place, with never none there.
	must(t, os.MkdirAll(filepath.Join(n.root, "other/lib/cni/results"), 0o700))
	must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(n.root, "other"), unix.AT_FDCWD, filepath.Join(n.root, "var"), unix.RENAME_EXCHANGE))
	n.waitGone(t, "a-uid")
	n.write(t, a)
	n.waitFor(t, n.attached(t, a, ns))

	// A link in the place of a folder.
	must(t, os.Rename(n.cache, n.cache+".real"), os.Symlink(n.cache+".real", n.cache))
	n.waitFor(t, n.attached(t, a, ns))
	n.remove(t, a)
	n.waitGone(t, "a-uid")
	other := claim("b", "c1")
	must(t, os.MkdirAll(filepath.Join(n.root, "elsewhere/results"), 0o700), os.Remove(n.cache), os.Symlink(filepath.Join(n.root, "elsewhere"), n.cache))
	n.write(t, other)
	n.waitFor(t, n.attached(t, other, ns))
}

// TestFoldersByTwoNames: inotify has one watch of a folder, whatever it is called.
func TestFoldersByTwoNames(t *testing.T) {
	n := newNode(t)
	link := filepath.Join(t.TempDir(), "host")
	must(t, os.Symlink(n.root, link))
	n.store.Close()
	s, err := attachments.New(attachments.Options{Dir: n.dir(), HostRoot: link, OnChange: n.changed})
	must(t, err)
	t.Cleanup(s.Close)
	n.store = s
	ns := n.ns(t, "c1")
	n.write(t, claim("a", "c1"))
	n.run(t)
	want := n.attached(t, claim("a", "c1"), ns)
	want.NetNS = filepath.Join(link, "run/netns/c1")
	n.waitFor(t, want)
	n.remove(t, claim("a", "c1"))
	n.waitGone(t, "a-uid")
}

// TestNamespaceComesAfterTheFile as when the host's mounts reach us late.
func TestNamespaceComesAfterTheFile(t *testing.T) {
	n := newNode(t)
	n.write(t, claim("a", "c1"))
	n.run(t)
	if d := diff(attachments.Stats{Files: 1, LeftOver: 1}, n.store.Stats()); d != "" || n.knows("a-uid") {
		t.Errorf("stats (-want +got):\n%s", d)
	}
	if p := n.store.Problems(); len(p) > 0 {
		t.Errorf("what is left over is a problem: %v", p)
	}
	// In one stroke, as mounting makes no event.
	run := filepath.Join(n.root, "run")
	ns := n.ns(t, "c1")
	must(t, unix.Unmount(filepath.Join(run, "netns/c1"), unix.MNT_DETACH))
	must(t, os.Rename(run, run+".away"))
	mount(t, filepath.Join(run+".away", "netns/c1"), ns)
	must(t, os.Rename(run+".away", run))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(run, "netns/c1"), unix.MNT_DETACH) })
	n.waitFor(t, n.attached(t, claim("a", "c1"), ns))
}

func TestBrokenFiles(t *testing.T) {
	n := newNode(t)
	ns, ns2 := n.ns(t, "c1"), n.ns(t, "c2")
	good, bad := claim("good", "c1"), claim("bad", "c2")
	n.write(t, good)
	half := content(t, bad)
	half = half[:len(half)/2]
	must(t, os.WriteFile(n.file(bad), half, 0o600))
	n.run(t)
	n.waitFor(t, n.attached(t, good, ns))
	problem := func(name, text string) {
		t.Helper()
		n.wait(t, "problem of "+name, func() bool {
			p := n.store.Problems()
			return len(p) == 1 && strings.Contains(p[0].Error(), name) && strings.Contains(p[0].Error(), text)
		})
	}
	problem("net-c2-eth0", "not JSON")

	// The rest arrives.
	must(t, os.WriteFile(n.file(bad), content(t, bad), 0o600))
	n.waitFor(t, n.attached(t, bad, ns2))
	if p := n.store.Problems(); len(p) > 0 {
		t.Errorf("a problem stays: %v", p)
	}

	// A good file breaks, in several ways: what it said stands.
	for i, broken := range [][]byte{nil, half, []byte("[]"), bytes.Repeat([]byte(" "), 2<<20), []byte(`{"kind":"cniCacheV1","cniArgs":[["K8S_POD_UID","x"]]}`)} {
		text := []string{"empty", "not JSON", "not JSON", "more than 1048576 bytes", "container ID"}[i]
		must(t, os.WriteFile(n.file(good), broken, 0o600))
		problem("net-c1-eth0", text)
		n.waitFor(t, n.attached(t, good, ns))
	}
	good.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	n.write(t, good)
	n.waitFor(t, n.attached(t, good, ns))
	must(t, os.WriteFile(n.file(good), nil, 0o600))
	problem("net-c1-eth0", "empty")
	n.remove(t, good)
	n.waitGone(t, "good-uid")
	if p := n.store.Problems(); len(p) > 0 {
		t.Errorf("a problem stays: %v", p)
	}
	if got := n.logged("net-c2-eth0"); got != 1 {
		t.Errorf("the first broken file was logged %d times", got)
	}
}

// TestLoggedOnce: a file that stays as broken as it is is not worth another line.
func TestLoggedOnce(t *testing.T) {
	n := newNode(t)
	n.ns(t, "c1")
	must(t, os.MkdirAll(n.dir(), 0o700), os.WriteFile(filepath.Join(n.dir(), "broken"), []byte("{"), 0o600))
	n.run(t)
	for i := range 3 {
		must(t, os.WriteFile(filepath.Join(n.dir(), "broken"), []byte("{"), 0o600))
		c := claim("barrier", "c1")
		c.MTU = 1000 + i
		n.write(t, c)
		n.wait(t, "barrier", func() bool { a, _ := n.store.Lookup("barrier-uid"); return a.MTU == c.MTU })
	}
	if got := n.logged("broken"); got != 1 {
		t.Errorf("logged %d times", got)
	}
}

// TestOthersFiles are no business of ours, and no problem.
func TestOthersFiles(t *testing.T) {
	n := newNode(t)
	n.ns(t, "c1")
	lo := claim("lo", "c1")
	lo.IfName = "lo"
	n.write(t, lo)
	podman := claim("podman", "c1")
	podman.PodUID = ""
	n.write(t, podman)
	must(t,
		os.WriteFile(filepath.Join(n.dir(), "old"), []byte(`{"cniVersion":"0.3.1","ips":[]}`), 0o600),
		os.Mkdir(filepath.Join(n.dir(), "folder"), 0o700),
		unix.Mkfifo(filepath.Join(n.dir(), "fifo"), 0o600),
		os.Symlink("nowhere", filepath.Join(n.dir(), "link")),
	)
	n.run(t)
	if d := diff(attachments.Stats{}, n.store.Stats()); d != "" {
		t.Errorf("stats (-want +got):\n%s\nproblems: %v", d, n.store.Problems())
	}
}

func TestCacheThatIsNoFolder(t *testing.T) {
	n := newNode(t)
	must(t, os.MkdirAll(n.cache, 0o700), os.WriteFile(n.dir(), nil, 0o600))
	n.run(t)
	if p := n.store.Problems(); len(p) != 1 {
		t.Errorf("problems %v", p)
	}
	must(t, os.Remove(n.dir()))
	ns := n.ns(t, "c1")
	n.write(t, claim("a", "c1"))
	n.waitFor(t, n.attached(t, claim("a", "c1"), ns))
	if p := n.store.Problems(); len(p) > 0 {
		t.Errorf("the problem stays: %v", p)
	}
}

func TestThousandFiles(t *testing.T) {
	const pods = 50 // that are there; the rest is left over from before the node started
	n := newNode(t)
	var want []attachments.Attachment
	for i := range 1000 {
		c := claim(fmt.Sprintf("pod-%03d", i), fmt.Sprintf("c%03d", i))
		if i < pods {
			want = append(want, n.attached(t, c, n.ns(t, c.ContainerID)))
		}
		n.write(t, c)
	}
	start := time.Now()
	n.run(t)
	if d := diff(want, n.store.List()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	t.Logf("ready in %v", time.Since(start))
	if d := diff(attachments.Stats{Files: 1000, Pods: pods, LeftOver: 1000 - pods}, n.store.Stats()); d != "" {
		t.Errorf("stats (-want +got):\n%s", d)
	}
	// A second store, as of an agent that starts again, says the same.
	first := n.store
	n.store = n.newStore(t)
	n.run(t)
	if d := diff(first.List(), n.store.List()); d != "" {
		t.Errorf("a second store says (-first +second):\n%s", d)
	}
}

// TestAtOnce does everything at the same time; it is for the race detector, and for what is left.
func TestAtOnce(t *testing.T) {
	n := newNode(t)
	var claims []attachments.Claim
	var want []attachments.Attachment
	for i := range 16 {
		c := claim(fmt.Sprintf("pod-%02d", i), fmt.Sprintf("c%02d", i))
		want = append(want, n.attached(t, c, n.ns(t, c.ContainerID)))
		claims = append(claims, c)
	}
	n.run(t)
	var wg sync.WaitGroup
	for _, c := range claims {
		data := content(t, c)
		wg.Go(func() {
			for range 10 {
				if err := n.store.Add(c); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(n.root, c.ContainerID), data, 0o600); err != nil {
					t.Error(err)
				}
				if err := os.Rename(filepath.Join(n.root, c.ContainerID), n.file(c)); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
				if h, _, err := n.store.Open(c.PodUID); err == nil {
					if err := h.Close(); err != nil {
						t.Error(err)
					}
				}
				n.store.List()
				n.store.Stats()
				n.store.Delete(c.ContainerID, c.IfName)
				_ = os.Remove(n.file(c)) // there unless the folder is not
				if n.knows(c.PodUID) {
					t.Errorf("%s is known after DEL", c.PodUID)
				}
			}
			if err := n.store.Add(c); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, os.MkdirAll(n.dir(), 0o700))
	wg.Wait()
	if d := diff(want, n.store.List()); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
}
