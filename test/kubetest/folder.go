//go:build linux

package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// folder is a server's own, for data, keys and output. A lock on it tells others that its process lives.
type folder struct {
	dir  string
	lock *os.File
}

// newFolder makes a folder below the one for temporary files, and removes those whose processes were killed.
func newFolder() (_ *folder, err error) {
	parent := filepath.Join(os.TempDir(), "tailgate-kubetest-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for Kubernetes API servers: %w", err)
	}
	// One process at a time makes or removes folders: a new one has no lock yet.
	lock, err := lockFolder(parent, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := sweep(parent); err != nil {
		return nil, err
	}
	f := &folder{}
	if f.dir, err = os.MkdirTemp(parent, strconv.Itoa(os.Getpid())+"-"); err != nil {
		return nil, fmt.Errorf("make a folder for a Kubernetes API server: %w", err)
	}
	if f.lock, err = lockFolder(f.dir, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, os.RemoveAll(f.dir))
	}
	return f, nil
}

// sweep removes the folders in parent that nobody holds.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(parent, entry.Name())
		lock, err := lockFolder(dir, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue // in use, or just removed by its own process
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return fmt.Errorf("remove what a killed test left: %w", err)
		}
	}
	return nil
}

// lockFolder takes a lock (flock(2)) on a folder, which the closing of the file ends, or the end of the process.
func lockFolder(dir string, how int) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), file.Close())
	}
	return file, nil
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// remove removes the folder and all in it.
func (f *folder) remove() error { return errors.Join(os.RemoveAll(f.dir), f.lock.Close()) }
