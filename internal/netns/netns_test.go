//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

func currentID(t *testing.T) netns.ID {
	t.Helper()
	h, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return id(t, h)
}

func id(t *testing.T, h *netns.Handle) netns.ID {
	t.Helper()
	id, err := h.ID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDoEntersAndReturns(t *testing.T) {
	home := currentID(t)
	h := nstest.New(t)
	if id(t, h) == home {
		t.Fatal("the new namespace is the old one")
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := h.Do(func() error {
				if got := currentID(t); got != id(t, h) {
					return fmt.Errorf("inside Do: %v, want %v", got, id(t, h))
				}
				links, err := net.Interfaces()
				if err == nil && len(links) != 1 {
					err = fmt.Errorf("%d links in an empty namespace: %v", len(links), links)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			// Whatever thread this goroutine is on now, it must be at home.
			runtime.Gosched()
			if got := currentID(t); got != home {
				t.Errorf("after Do: %v, want %v", got, home)
			}
		})
	}
	wg.Wait()
}

func TestDoReturnsTheError(t *testing.T) {
	h := nstest.New(t)
	want := errors.New("no")
	if err := h.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("Do returned %v", err)
	}
	if err := h.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a function that never returned gives no error")
	}
}

func TestDoEndsAThreadThatCannotReturn(t *testing.T) {
	home := currentID(t)
	h := nstest.New(t)
	var lost int
	err := h.Do(func() error {
		lost = unix.Gettid()
		// Without capabilities setns is refused (setns(2)).
		var none [2]unix.CapUserData
		return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if unix.Gettid() == lost {
				t.Error("a goroutine runs on the thread that could not return")
			}
			if got := currentID(t); got != home {
				t.Errorf("a goroutine is in %v, want %v", got, home)
			}
		})
	}
	wg.Wait()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want error
		text string
	}{
		{file, netns.ErrNotNetNS, "ordinary file"},
		{fifo, netns.ErrNotNetNS, fifo},
		{dir, netns.ErrNotNetNS, dir},
		{"/proc/self/ns/mnt", netns.ErrNotNetNS, "another kind"},
		{filepath.Join(dir, "none"), fs.ErrNotExist, "none"},
	} {
		h, err := netns.Open(tt.path)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("Open(%s) = %v, %v; want %v with %q", tt.path, h, err, tt.want, tt.text)
		}
	}
}

func TestDescriptorsCloseOnExec(t *testing.T) {
	h := nstest.New(t)
	flags, err := unix.FcntlInt(uintptr(h.FD()), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#x, %v: want FD_CLOEXEC", flags, err)
	}
	dup, err := unix.Dup(h.FD()) // dup clears the flag
	if err != nil {
		t.Fatal(err)
	}
	d, err := netns.FromFD(dup)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if flags, err := unix.FcntlInt(uintptr(dup), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags after FromFD %#x, %v: want FD_CLOEXEC", flags, err)
	}
	if id(t, d) != id(t, h) {
		t.Error("the same namespace has two IDs")
	}
}

func TestNamed(t *testing.T) {
	name := fmt.Sprintf("tgnetns-%d", os.Getpid())
	h := nstest.NewNamed(t, name)
	again, err := netns.Open("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if id(t, again) != id(t, h) {
		t.Error("the path leads to another namespace")
	}
	if _, err := netns.NewNamed(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second NewNamed gives %v", err)
	}
	if err := netns.DeleteNamed(name); err != nil {
		t.Error(err)
	}
	if err := netns.DeleteNamed(name); err != nil {
		t.Errorf("deleting the absent: %v", err)
	}
	if _, err := netns.NewNamed(name); err != nil {
		t.Errorf("the name is free again, and yet: %v", err)
	}
	if _, err := netns.NewNamed("a/b"); err == nil {
		t.Error("a name with a slash is taken")
	}
}

func TestCloseTwice(t *testing.T) {
	h, err := netns.NewAnonymous()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("Do on a closed handle gives no error")
	}
}

// TestDoUnprivileged: a gateway has no CAP_SYS_ADMIN, and its own namespace is the only one that it works in. A
// process of its own has none here.
func TestDoUnprivileged(t *testing.T) {
	const child = "TAILGATE_TEST_UNPRIVILEGED"
	if other := os.Getenv(child); other != "" {
		h, err := netns.Current()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		ran := false
		if err := h.Do(func() error { ran = true; return nil }); err != nil || !ran {
			t.Errorf("its own namespace: ran %v, %v", ran, err)
		}
		elsewhere, err := netns.Open(other)
		if err != nil {
			t.Fatal(err)
		}
		defer elsewhere.Close()
		if err := elsewhere.Do(func() error { return nil }); !errors.Is(err, unix.EPERM) {
			t.Errorf("another namespace: %v, want %v; this process has more privileges than the test is about", err, unix.EPERM)
		}
		return
	}
	h := nstest.New(t)
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with what it lost
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
			errs <- err
			return
		}
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestDoUnprivileged$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=/proc/%d/fd/%d", child, os.Getpid(), h.FD()))
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "PASS: TestDoUnprivileged") {
			err = errors.New("the test did not run")
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Error(err)
	}
}
