//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// namedDir is where ip-netns(8) keeps its named namespaces.
const namedDir = "/run/netns"

// NewAnonymous makes a network namespace that lives as long as its handle, and
// what else uses it.
func NewAnonymous() (*Handle, error) {
	var h *Handle
	err := inNew(func() (err error) {
		h, err = Current()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return h, nil
}

// NewNamed makes a network namespace that "ip netns" knows by name. It stays until
// [DeleteNamed]. An error wraps [os.ErrExist] when the name is taken.
func NewNamed(name string) (*Handle, error) {
	path, err := namedPath(name)
	if err != nil {
		return nil, err
	}
	if err := shareNamedDir(); err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	err = errors.Join(f.Close(), inNew(func() error {
		return unix.Mount(currentPath, path, "none", unix.MS_BIND, "")
	}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), os.Remove(path))
	}
	return Open(path)
}

// DeleteNamed takes the name away; the namespace ends with its last user. A name
// that is not there is no error.
func DeleteNamed(name string) error {
	path, err := namedPath(name)
	if err != nil {
		return err
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

func namedPath(name string) (string, error) {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return "", fmt.Errorf("%q cannot name a network namespace: use a file name without slashes", name)
	}
	return filepath.Join(namedDir, name), nil
}

// shareNamedDir makes namedDir as ip-netns(8) does: a mount point of its own whose
// mounts propagate, so that every mount namespace sees names come and go.
func shareNamedDir() error {
	if err := os.MkdirAll(namedDir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", namedDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return os.NewSyscallError("mount --make-shared "+namedDir, err)
	}
	// EINVAL: not a mount point yet.
	if err := unix.Mount(namedDir, namedDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return os.NewSyscallError("mount --rbind "+namedDir, err)
	}
	return os.NewSyscallError("mount --make-shared "+namedDir, unix.Mount("", namedDir, "none", unix.MS_SHARED|unix.MS_REC, ""))
}

// inNew runs fn on a thread that is in a new network namespace and ends with fn.
func inNew(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("unshare", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
