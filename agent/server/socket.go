package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// identity tells a socket file from another at the same path.
type identity struct{ dev, ino uint64 }

// listen listens at path, in place of whichever agent's socket is there.
func listen(path string) (*net.UnixListener, identity, error) {
	if err := privateFolder(filepath.Dir(path)); err != nil {
		return nil, identity{}, err
	}
	// A plugin that connects while one agent follows another finds one of them, for the
	// name passes from socket to socket in one step.
	temp := path + ".new"
	for _, p := range []string{path, temp} {
		if err := socketOrNothing(p); err != nil {
			return nil, identity{}, err
		}
	}
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, identity{}, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, identity{}, err
	}
	ln.SetUnlinkOnClose(false) // the name may be another's by then
	own, err := publish(temp, path)
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(temp)
		return nil, identity{}, err
	}
	return ln, own, nil
}

// publish makes the socket temp root's only, and gives it the name path.
func publish(temp, path string) (identity, error) {
	if err := os.Chmod(temp, 0o600); err != nil {
		return identity{}, err
	}
	own, err := identify(temp)
	if err != nil {
		return identity{}, err
	}
	return own, os.Rename(temp, path)
}

// privateFolder makes dir, or makes it root's only.
func privateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) // it may have been there
}

// socketOrNothing returns an error when something else than a socket is at path.
func socketOrNothing(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is not a socket; remove it, or name another path", path)
	}
	return nil
}

func identify(path string) (identity, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return identity{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return identity{dev: uint64(st.Dev), ino: st.Ino}, nil
}

// remove removes the socket at path if it is still this one. Nothing of worth is lost when it fails: a
// plugin is refused at a socket that nobody listens at.
func (id identity) remove(path string) {
	if now, err := identify(path); err == nil && now == id {
		_ = os.Remove(path)
	}
}

// touch says that an agent listens at the socket at path, if it is still this one. Where it fails, pods wait less for the
// next agent.
func (id identity) touch(path string) {
	if now, err := identify(path); err == nil && now == id {
		_ = os.Chtimes(path, time.Now(), time.Now())
	}
}

// peer returns who connected, as the kernel knows (SO_PEERCRED, unix(7)).
func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		cred, optErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, optErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// watch calls cancel when the plugin at the other end goes, until the function that it returns is called.
func watch(conn *net.UnixConn, cancel context.CancelFunc) (stop func()) {
	_ = conn.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 64); ; {
			if _, err := conn.Read(b); err != nil {
				cancel()
				return
			}
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-done
	}
}
