package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxFile is the largest configuration that is read, in bytes; real ones have some hundred.
	maxFile = 1 << 20
	// tempPattern is that of the names of files in the making. No runtime reads a file of such a name.
	tempPattern = ".tailgate-*.tmp"
)

// errChanged is returned when a file is no longer what it was when it was read.
var errChanged = errors.New("somebody else changed it at the same time")

// file is a configuration file as it was read.
type file struct {
	path     string
	text     []byte
	mode     fs.FileMode
	uid, gid int
}

// readFile reads a regular file. Its errors go on after the path, but for one that wraps fs.ErrNotExist.
func readFile(path string) (*file, error) {
	// Nonblocking, or a FIFO would wait for a writer.
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errors.New("is a symbolic link, whose target may be out of the agent's sight; make it a file")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file; make it one")
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("has more than %d bytes, and is hardly a network configuration", maxFile)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("is empty; write a network configuration into it")
	}
	st := info.Sys().(*syscall.Stat_t)
	return &file{path: path, text: text, mode: info.Mode().Perm(), uid: int(st.Uid), gid: int(st.Gid)}, nil
}

// replace puts text in place of f, in one step. The error is errChanged when f has changed since it was read; what
// was written there instead is then left as it is.
func (f *file) replace(text []byte) error {
	temp, err := writeTemp(filepath.Dir(f.path), f, bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	err = f.swap(temp, func() error {
		return unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, f.path, unix.RENAME_EXCHANGE)
	})
	if err != nil {
		return fmt.Errorf("replace %s: %w", f.path, err)
	}
	return syncFolder(filepath.Dir(f.path))
}

// swap gives temp the name of f by means of exchange, which swaps the two names. Only what was there at that very moment
// can tell whether somebody else's change would be lost, so it is looked at afterwards, and goes back if it is not f.
func (f *file) swap(temp string, exchange func() error) error {
	put := holds(temp)
	err := exchange()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errChanged
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP):
		if !bytes.Equal(holds(f.path).text, f.text) { // a file system that cannot: nearly as good
			return errChanged
		}
		return os.Rename(temp, f.path)
	case err != nil:
		return err
	}
	taken := holds(temp)
	if bytes.Equal(taken.text, f.text) {
		return nil
	}
	for {
		if err := exchange(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		out := holds(temp)
		if out.id == put.id && bytes.Equal(out.text, put.text) {
			return errChanged
		}
		// In the meantime a newer one came, and must go back in turn.
		put, taken = taken, out
	}
}

// content is what is at a path: which file, and its text; nil: it has none that can be read.
type content struct {
	id   identity
	text []byte
}

func holds(path string) content {
	var c content
	if info, err := os.Lstat(path); err == nil {
		st := info.Sys().(*syscall.Stat_t)
		c.id = identity{dev: uint64(st.Dev), ino: st.Ino}
	}
	if f, err := readFile(path); err == nil {
		c.text = f.text
	}
	return c
}

// create makes or replaces the file at path, in one step, with mode and owner of another.
func create(path string, text []byte, like *file) error {
	temp, err := writeTemp(filepath.Dir(path), like, bytes.NewReader(text))
	if err != nil {
		return err
	}
	return publish(temp, path)
}

// publish gives temp the name path.
func publish(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// writeTemp writes a file in dir, with mode and owner of another, and returns its path.
func writeTemp(dir string, like *file, from io.Reader) (path string, err error) {
	out, err := os.CreateTemp(dir, tempPattern)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // without the random name: who follows the status would see a new error each time
		}
		return "", fmt.Errorf("make a file in %s: %w", dir, err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	if _, err := io.Copy(out, from); err != nil {
		return "", err
	}
	if like.uid != os.Geteuid() || like.gid != os.Getegid() {
		if err := out.Chown(like.uid, like.gid); err != nil {
			return "", err
		}
	}
	if err := out.Chmod(like.mode); err != nil {
		return "", err
	}
	return out.Name(), out.Sync()
}

// syncFolder makes renames in dir last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems have no such thing
		return err
	}
	return nil
}

// removeTemps removes what an earlier process left unfinished in dir.
func removeTemps(dir string) error {
	temps, err := filepath.Glob(filepath.Join(dir, tempPattern))
	for _, temp := range temps {
		if rerr := os.Remove(temp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
