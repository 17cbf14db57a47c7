package install

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// live is an installer that runs, and the statuses that it told.
type live struct {
	*Installer
	changes chan Status
	stop    func()
}

// start runs an installer for n until the test ends.
func start(t *testing.T, n *node) *live {
	t.Helper()
	l := &live{changes: make(chan Status, 1000)}
	l.Installer = n.installer(t, func(o *Options) { o.OnChange = func(s Status) { l.changes <- s } })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// until waits for a status of which is says that it is the one. The limit is generous: soon measures.
func (l *live) until(t *testing.T, what string, is func(Status) bool) Status {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var seen []Status
	for {
		select {
		case s := <-l.changes:
			if is(s) {
				return s
			}
			seen = append(seen, s)
		case <-deadline:
			t.Fatalf("%s: no such status; there were %d others, the last of them %+v, and it is %+v", what, len(seen), seen[max(0, len(seen)-3):], l.Status())
		}
	}
}

// soon waits for the next time that the entry is put in, which is to take less than a second.
func (l *live) soon(t *testing.T, what string, change func()) {
	t.Helper()
	patches := l.Status().Patches
	begin := time.Now()
	change()
	l.until(t, what, func(s Status) bool { return s.State == Ready && s.Patches > patches })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("%s: patched again after %v", what, took)
	}
}

func installed(s Status) bool { return s.State == Ready && s.Reason == Installed }

// atomically writes a file as careful installers do.
func (n *node) atomically(t *testing.T, name, text string) {
	t.Helper()
	temp := n.path(name + ".new")
	n.put(t, temp, text)
	if err := os.Rename(temp, n.path(name)); err != nil {
		t.Fatal(err)
	}
}

func TestPatchedAgain(t *testing.T) {
	kindnet, flannel := sample(t, "kindnet.conflist"), sample(t, "flannel.conflist")
	n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
	l := start(t, n)
	l.until(t, "first", installed)
	want := n.read(t, "10-kindnet.conflist")

	l.soon(t, "written over", func() { n.write(t, "10-kindnet.conflist", kindnet) })
	l.soon(t, "replaced", func() { n.atomically(t, "10-kindnet.conflist", kindnet) })
	l.soon(t, "removed and made again", func() {
		if err := os.Remove(n.path("10-kindnet.conflist")); err != nil {
			t.Fatal(err)
		}
		n.write(t, "10-kindnet.conflist", kindnet)
	})
	if diff := cmp.Diff(want, n.read(t, "10-kindnet.conflist")); diff != "" {
		t.Errorf("after all that (-want +got):\n%s", diff)
	}

	l.soon(t, "another in front", func() { n.write(t, "05-cilium.conflist", sample(t, "cilium.conflist")) })
	if diff := cmp.Diff(kindnet, n.read(t, "10-kindnet.conflist")); diff != "" {
		t.Errorf("the one that is no longer used (-want +got):\n%s", diff)
	}
	l.soon(t, "and gone", func() {
		if err := os.Remove(n.path("05-cilium.conflist")); err != nil {
			t.Fatal(err)
		}
	})
	if diff := cmp.Diff(want, n.read(t, "10-kindnet.conflist")); diff != "" {
		t.Errorf("the one that is used again (-want +got):\n%s", diff)
	}

	l.soon(t, "folder replaced", func() {
		if err := os.Rename(n.conf, n.conf+".old"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(n.conf, 0o755); err != nil {
			t.Fatal(err)
		}
		n.write(t, "10-flannel.conflist", flannel)
	})
	l.soon(t, "folder removed and made again", func() {
		if err := os.RemoveAll(n.conf); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(n.conf, 0o755); err != nil {
			t.Fatal(err)
		}
		n.write(t, "10-flannel.conflist", flannel)
	})
	l.soon(t, "folders above removed and made again", func() {
		if err := os.RemoveAll(filepath.Dir(filepath.Dir(n.conf))); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(n.conf, 0o755); err != nil {
			t.Fatal(err)
		}
		n.write(t, "10-flannel.conflist", flannel)
	})
}

func TestWaits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		remove func(n *node) string
	}{
		{"empty folder", func(*node) string { return "" }},
		{"no folder", func(n *node) string { return n.conf }},
		{"no folders", func(n *node) string { return filepath.Dir(filepath.Dir(n.conf)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, nil)
			if err := os.RemoveAll(tt.remove(n)); err != nil {
				t.Fatal(err)
			}
			l := start(t, n)
			s := l.until(t, "waits", func(s Status) bool { return s.State == Waiting })
			want := Status{State: Waiting, Reason: NoNetworkConfig, Message: n.conf + " has no network configuration yet"}
			if diff := cmp.Diff(want, s); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			l.soon(t, "it comes", func() {
				if err := os.MkdirAll(n.conf, 0o755); err != nil {
					t.Fatal(err)
				}
				n.write(t, "10-kindnet.conflist", sample(t, "kindnet.conflist"))
			})
		})
	}
}

// TestLoneLife: the list that stands for a single plugin follows it.
func TestLoneLife(t *testing.T) {
	lone := sample(t, "lone.conf")
	n := newNode(t, map[string]string{"10-mynet.conf": lone})
	l := start(t, n)
	l.until(t, "made", installed)

	l.soon(t, "the plugin changes", func() { n.write(t, "10-mynet.conf", strings.Replace(lone, "cni0", "br0", 1)) })
	if text := n.read(t, "10-mynet-tailgate.conflist"); !strings.Contains(text, `"bridge": "br0"`) {
		t.Errorf("the list did not follow: %s", text)
	}

	// What replaces it must not be hidden by a list of what was, even if it is not understood.
	n.write(t, "10-mynet.conf", strings.Replace(lone, "0.3.1", "3.0.0", 1))
	l.until(t, "not understood", func(s Status) bool { return s.Reason == NotUnderstood })
	if diff := cmp.Diff([]string{"bridge"}, n.chain(t)); diff != "" {
		t.Errorf("plugins that a runtime runs (-want +got):\n%s", diff)
	}
	l.soon(t, "as it was", func() { n.write(t, "10-mynet.conf", lone) })

	if err := os.Remove(n.path("10-mynet.conf")); err != nil {
		t.Fatal(err)
	}
	l.until(t, "gone", func(s Status) bool { return s.State == Waiting })
	if left, err := os.ReadDir(n.conf); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}

	l.soon(t, "again", func() { n.write(t, "10-mynet.conf", lone) })
	l.soon(t, "a list instead", func() {
		n.write(t, "10-mynet.conflist", sample(t, "kindnet.conflist"))
		if err := os.Remove(n.path("10-mynet.conf")); err != nil {
			t.Fatal(err)
		}
		l.until(t, "the list", func(s Status) bool { return s.File == n.path("10-mynet.conflist") })
		n.write(t, "10-mynet.conflist", sample(t, "flannel.conflist"))
	})
	if left, err := filepath.Glob(n.path("*")); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A file that loses what made it fit to be touched loses the entry, too: there the entry would keep pods from starting.
func TestNoLongerFit(t *testing.T) {
	n := newNode(t, map[string]string{"10-a.conflist": `{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"a"}]}`})
	i := n.installer(t)
	i.look()
	patched := n.read(t, "10-a.conflist")
	n.write(t, "10-a.conflist", strings.Replace(patched, "1.0.0", "1.2.0", 1))
	i.look()
	if s := i.Status(); s.Reason != NotUnderstood {
		t.Errorf("status %+v", s)
	}
	if diff := cmp.Diff(`{"name":"n","cniVersion":"1.2.0","plugins":[{"type":"a"}]}`, n.read(t, "10-a.conflist")); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

// Somebody who takes the entry out whenever it is put in is not answered forever.
func TestContended(t *testing.T) {
	cilium := sample(t, "cilium.conflist")
	n := newNode(t, map[string]string{"05-cilium.conflist": cilium})
	l := start(t, n)
	s := l.until(t, "gives in", func(s Status) bool {
		if s.State == Ready {
			n.atomically(t, "05-cilium.conflist", cilium)
		}
		return s.Reason == Contended
	})
	want := Status{State: Unready, Reason: Contended, Patches: burst, Message: n.path("05-cilium.conflist") +
		" was changed 10 times within 1m0s by another program that takes tailgate-cni out; members that start now get their tailnet late. Let that program keep what others chain (Cilium: cni.exclusive=false)"}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(cilium, n.read(t, "05-cilium.conflist")); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

// The kernel drops the watch of a folder that goes, and may give its inode to the one that comes in its place.
func TestWatchEndsWithFolder(t *testing.T) {
	w, err := newWatcher(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.follow(dir)
	watches := func() bool { _, ok := w.watched[dir]; return ok }
	if !watches() {
		t.Fatal("the folder is not watched")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for watches() && w.wait(ctx, time.Hour) {
	}
	if watches() {
		t.Error("the folder that has gone is taken for watched")
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	start := time.Unix(1000, 0)
	for i := range burst {
		now := start.Add(time.Duration(i) * time.Second)
		if wait := l.next(now); wait != 0 {
			t.Fatalf("the %d. waits for %v", i+1, wait)
		}
		l.took(now)
	}
	for _, tt := range []struct{ at, want time.Duration }{
		{burst * time.Second, window - burst*time.Second},
		{window - time.Nanosecond, time.Nanosecond},
		{window, 0},
	} {
		if wait := l.next(start.Add(tt.at)); wait != tt.want {
			t.Errorf("after %v it waits for %v, want %v", tt.at, wait, tt.want)
		}
	}
	l.took(start.Add(window))
	if wait := l.next(start.Add(window)); wait != time.Second {
		t.Errorf("it waits for %v, want %v: the second is a minute old then", wait, time.Second)
	}
}
