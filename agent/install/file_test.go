package install

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// eventually waits for a second.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Second); !is(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a second: %s", what)
		}
	}
}

func TestModeAndOwnerKept(t *testing.T) {
	for _, name := range []string{"10-a.conflist", "10-a.conf"} {
		text := sample(t, "kindnet.conflist")
		if filepath.Ext(name) == ".conf" {
			text = sample(t, "lone.conf")
		}
		n := newNode(t, map[string]string{name: text})
		if err := errors.Join(os.Chown(n.path(name), 1234, 5678), os.Chmod(n.path(name), 0o640)); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, n.conf, false)
		i := n.installer(t)
		i.look()
		all := snapshot(t, n.conf, false)
		for _, line := range all[1:] {
			if !strings.Contains(line, " -rw-r----- 1234:5678 ") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if err := i.Uninstall(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, snapshot(t, n.conf, false)); diff != "" {
			t.Errorf("%s: put in and taken out (-before +after):\n%s", name, diff)
		}
	}
}

// readOnly calls f on a thread to which dir is read-only.
func readOnly(t *testing.T, dir string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with its mounts
		err := errors.Join(
			unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount(dir, dir, "", unix.MS_BIND, ""),
			unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestReadOnly(t *testing.T) {
	kindnet := sample(t, "kindnet.conflist")
	const advice = "; let the agent write there, or set cni.mode to binary and chain tailgate-cni yourself"
	t.Run("configuration", func(t *testing.T) {
		n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
		before := snapshot(t, n.conf, true)
		i := n.installer(t)
		readOnly(t, n.conf, func() { i.look() })
		want := Status{State: Unready, Reason: NotWritable, Message: "make a file in " + n.conf + ": read-only file system" + advice}
		if diff := cmp.Diff(want, i.Status()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, snapshot(t, n.conf, true)); diff != "" {
			t.Errorf("it was touched (-before +after):\n%s", diff)
		}
		i.look()
		if s := i.Status(); s.State != Ready {
			t.Errorf("once it can be written: %+v", s)
		}
		readOnly(t, n.conf, func() { i.look() })
		if s := i.Status(); s.State != Ready {
			t.Errorf("with nothing to write: %+v", s)
		}
	})
	t.Run("lone", func(t *testing.T) {
		n := newNode(t, map[string]string{"10-a.conf": sample(t, "lone.conf")})
		i := n.installer(t)
		readOnly(t, n.conf, func() { i.look() })
		if s := i.Status(); s.Reason != NotWritable {
			t.Errorf("status %+v", s)
		}
	})
	t.Run("binary", func(t *testing.T) {
		n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
		if err := os.MkdirAll(n.bin, 0o755); err != nil {
			t.Fatal(err)
		}
		i := n.installer(t)
		readOnly(t, n.bin, func() { i.look() })
		want := Status{
			State: Unready, Reason: BinaryNotInstalled,
			Message: "install the plugin as " + n.bin + "/tailgate-cni: make a file in " + n.bin + ": read-only file system",
		}
		if diff := cmp.Diff(want, i.Status()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(kindnet, n.read(t, "10-kindnet.conflist")); diff != "" {
			t.Errorf("configuration (-want +got):\n%s", diff)
		}
	})
	t.Run("uninstall", func(t *testing.T) {
		n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
		i := n.installer(t)
		i.look()
		readOnly(t, n.conf, func() {
			if err := i.Uninstall(); !errors.Is(err, syscall.EROFS) {
				t.Errorf("Uninstall: %v", err)
			}
		})
		if !i.binaryUsable() {
			t.Error("the binary is gone, and a configuration refers to it")
		}
		if err := i.Uninstall(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(kindnet, n.read(t, "10-kindnet.conflist")); diff != "" {
			t.Errorf("configuration (-want +got):\n%s", diff)
		}
	})
}

// TestReplaceChanged: whatever took the place of a file since it was read stays there.
func TestReplaceChanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"written": func(path string) error { return os.WriteFile(path, []byte("changed"), 0o644) },
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("changed"), 0o600))
		},
		"a link":   func(path string) error { return errors.Join(os.Remove(path), os.Symlink("x", path)) },
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
		"removed":  os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, map[string]string{"10-a.conf": "read"})
			f, err := readFile(n.path("10-a.conf"))
			if err != nil {
				t.Fatal(err)
			}
			if err := change(f.path); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, n.conf, true)
			if err := f.replace([]byte("mine")); !errors.Is(err, errChanged) {
				t.Errorf("error %v, want %v", err, errChanged)
			}
			if diff := cmp.Diff(before, snapshot(t, n.conf, true)); diff != "" {
				t.Errorf("what another did was undone (-before +after):\n%s", diff)
			}
		})
	}
}

// TestSwapRaces lets another write at each moment that a swap has, by a rename or into the file that is there.
func TestSwapRaces(t *testing.T) {
	write := func(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
	rename := func(path, text string) error {
		return errors.Join(write(path+".new", text), os.Rename(path+".new", path))
	}
	for _, tt := range []struct {
		name string
		// before and after are what the other does before and after each exchange, by its number from 0.
		before, after map[int]func(path string) error
		want          string
	}{
		{"nobody", nil, nil, "mine"},
		{"before", map[int]func(string) error{0: func(p string) error { return rename(p, "1") }}, nil, "1"},
		{"into it, before", map[int]func(string) error{0: func(p string) error { return write(p, "1") }}, nil, "1"},
		{
			"before, and before it is put back",
			map[int]func(string) error{0: func(p string) error { return rename(p, "1") }, 1: func(p string) error { return rename(p, "2") }}, nil, "2",
		},
		{
			"before, and into mine",
			map[int]func(string) error{0: func(p string) error { return rename(p, "1") }, 1: func(p string) error { return write(p, "2") }}, nil, "2",
		},
		{
			"three times",
			map[int]func(string) error{
				0: func(p string) error { return rename(p, "1") }, 1: func(p string) error { return rename(p, "2") },
				2: func(p string) error { return rename(p, "3") },
			}, nil, "3",
		},
		{
			"once more after it was put back",
			map[int]func(string) error{0: func(p string) error { return rename(p, "1") }},
			map[int]func(string) error{1: func(p string) error { return rename(p, "2") }}, "2",
		},
		{"removed in between", map[int]func(string) error{0: func(p string) error { return rename(p, "1") }, 1: os.Remove}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, map[string]string{"10-a.conf": "read"})
			f, err := readFile(n.path("10-a.conf"))
			if err != nil {
				t.Fatal(err)
			}
			temp := n.path(".tailgate-1.tmp")
			n.put(t, temp, "mine")
			count := -1
			err = f.swap(temp, func() error {
				count++
				for when, acts := range []map[int]func(string) error{tt.before, tt.after} {
					if when == 1 {
						if err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, f.path, unix.RENAME_EXCHANGE); err != nil {
							return err
						}
					}
					if act := acts[count]; act != nil {
						if err := act(f.path); err != nil {
							t.Error(err)
						}
					}
				}
				return nil
			})
			if changed := errors.Is(err, errChanged); changed != (tt.want != "mine") || !changed && err != nil {
				t.Errorf("error %v", err)
			}
			got, err := os.ReadFile(f.path)
			if string(got) != tt.want || err != nil && tt.want != "" {
				t.Errorf("the file has %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

// A file system without the exchange, and one that fails.
func TestSwapUnsupported(t *testing.T) {
	for _, tt := range []struct {
		now  string
		err  error
		want string
		is   error
	}{
		{"read", unix.EINVAL, "mine", nil},
		{"changed", unix.ENOSYS, "changed", errChanged},
		{"read", unix.EIO, "read", unix.EIO},
	} {
		n := newNode(t, map[string]string{"10-a.conf": tt.now})
		f := &file{path: n.path("10-a.conf"), text: []byte("read")}
		temp := n.path(".tailgate-1.tmp")
		n.put(t, temp, "mine")
		if err := f.swap(temp, func() error { return tt.err }); !errors.Is(err, tt.is) {
			t.Errorf("%v: error %v, want %v", tt.err, err, tt.is)
		}
		if got := n.read(t, "10-a.conf"); got != tt.want {
			t.Errorf("%v: the file has %q, want %q", tt.err, got, tt.want)
		}
	}
}
