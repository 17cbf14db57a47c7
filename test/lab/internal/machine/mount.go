//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// build mounts the file system of s on its root and makes that the root of this process's mount
// namespace. What the host unmounts later goes here, too; nothing goes the other way.
func build(s Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return os.NewSyscallError("mount --make-rslave /", err)
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount root on %s: %w", s.Root, err)
	}
	for _, m := range s.Mounts {
		if err := m.apply(s.Root); err != nil {
			return fmt.Errorf("mount %s (%s) on %s: %w", m.Source, m.Kind, m.Target, err)
		}
	}
	return enter(s.Root)
}

// enter makes root the root and lets go of the old one (pivot_root(2)).
func enter(root string) error {
	old := filepath.Join(root, ".old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount the old root", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	// Last, for volumes that propagate into pods; they must not be private.
	return os.NewSyscallError("mount --make-rshared /", unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""))
}

func (m Mount) apply(root string) error {
	target := filepath.Join(root, m.Target)
	switch m.Kind {
	case Symlink:
		return os.Symlink(m.Source, target)
	case Bind, ReadOnly:
		return m.bind(target)
	case Tmpfs, Proc, Sysfs, BPF:
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		data := ""
		if m.Kind == Tmpfs {
			data = "mode=755"
		}
		err := unix.Mount(string(m.Kind), target, string(m.Kind), 0, data)
		if m.Kind == BPF && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM)) {
			return nil
		}
		return err
	}
	return fmt.Errorf("no such kind of mount: %q", m.Kind)
}

func (m Mount) bind(target string) error {
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if err := place(target, info.IsDir()); err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.Kind == Bind {
		return nil
	}
	// Below the top it stays as it is on the host.
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// place makes what a bind mount can cover; what exists, as in /proc, will do.
func place(target string, dir bool) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}
