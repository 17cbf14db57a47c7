package install

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	id, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return id.Sys().(*syscall.Stat_t).Ino
}

func TestBinary(t *testing.T) {
	n := newNode(t, nil)
	path := filepath.Join(n.bin, pluginType)
	binary := func(o *Options) { o.Mode = Binary }
	installed := func(version string) uint64 {
		t.Helper()
		want := []string{" drwxr-xr-x 0:0", `/tailgate-cni -rwxr-xr-x 0:0 "the plugin, version ` + version + `"`}
		if diff := cmp.Diff(want, snapshot(t, n.bin, false)); diff != "" {
			t.Fatalf("the binary's folder (-want +got):\n%s", diff)
		}
		return inode(t, path)
	}

	i := n.installer(t, binary)
	i.look()
	first := installed("1")
	i.look()
	n.installer(t, binary).look() // an agent that starts anew
	if installed("1") != first {
		t.Error("the same binary was copied again")
	}

	n.put(t, n.plugin, "the plugin, version 2") // of the same size
	i.look()
	installed("2")
	for name, spoil := range map[string]func() error{
		"removed":         func() error { return os.Remove(path) },
		"mode":            func() error { return os.Chmod(path, 0o600) },
		"overwritten":     func() error { return os.WriteFile(path, []byte("another"), 0o755) },
		"folder removed":  func() error { return os.RemoveAll(n.bin) },
		"a symbolic link": func() error { return errors.Join(os.Remove(path), os.Symlink(n.plugin, path)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		i.look()
		if s := i.Status(); s.State != Ready {
			t.Errorf("%s: status %+v", name, s)
		}
		installed("2")
	}
}

// A plugin that runs while another is installed goes on.
func TestRunningBinary(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, nil)
	i := n.installer(t, func(o *Options) { o.Mode = Binary; o.Plugin = sleep })
	i.look()
	cmd := exec.CommandContext(t.Context(), filepath.Join(n.bin, pluginType), "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.installer(t, func(o *Options) { o.Mode = Binary }).look()
	if text, err := os.ReadFile(filepath.Join(n.bin, pluginType)); err != nil || string(text) != "the plugin, version 1" {
		t.Fatalf("the binary is %.30q, error %v", text, err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the old binary's process: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("the old binary's process had ended: %v", err)
	}
}

// Without a binary, the entry would keep every pod from starting; an older binary does.
func TestNoBinary(t *testing.T) {
	kindnet := sample(t, "kindnet.conflist")
	n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
	i := n.installer(t)
	i.look()
	if err := os.Remove(n.plugin); err != nil {
		t.Fatal(err)
	}
	missing := "read the plugin " + n.plugin + ": open " + n.plugin + ": no such file or directory"

	i.look()
	want := Status{
		State: Unready, Reason: BinaryNotInstalled, Message: missing + "; an older one is in use",
		File: n.path("10-kindnet.conflist"), Patches: 1,
	}
	if diff := cmp.Diff(want, i.Status()); diff != "" {
		t.Errorf("status with an older binary (-want +got):\n%s", diff)
	}
	if got := n.chain(t); len(got) != 3 {
		t.Errorf("plugins with an older binary: %q", got)
	}

	if err := os.Remove(filepath.Join(n.bin, pluginType)); err != nil {
		t.Fatal(err)
	}
	i.look()
	want = Status{State: Unready, Reason: BinaryNotInstalled, Message: missing, Patches: 1}
	if diff := cmp.Diff(want, i.Status()); diff != "" {
		t.Errorf("status without a binary (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(kindnet, n.read(t, "10-kindnet.conflist")); diff != "" {
		t.Errorf("configuration without a binary (-want +got):\n%s", diff)
	}
	n.put(t, n.plugin, "the plugin, version 2")
	i.look()
	if s := i.Status(); s.State != Ready || s.Patches != 2 {
		t.Errorf("status with the binary again: %+v", s)
	}
}

// What an agent that was killed left unfinished goes when the next one runs.
func TestUnfinished(t *testing.T) {
	n := newNode(t, nil)
	if err := os.MkdirAll(n.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{n.bin, n.conf} {
		n.put(t, filepath.Join(dir, ".tailgate-1.tmp"), "half")
	}
	l := start(t, n)
	l.until(t, "first", func(s Status) bool { return s.State == Waiting })
	for _, dir := range []string{n.bin, n.conf} {
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// Somebody removes the binary: it is back within a second, as no pod starts without it.
func TestBinaryBack(t *testing.T) {
	n := newNode(t, map[string]string{"10-kindnet.conflist": sample(t, "kindnet.conflist")})
	l := start(t, n)
	l.until(t, "first", installed)
	path := filepath.Join(n.bin, pluginType)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the binary is back", func() bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist)
	})
}
