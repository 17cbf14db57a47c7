//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrDown says that a machine does not run.
var ErrDown = errors.New("the machine does not run")

// Client speaks to a machine. The zero value is not usable; see [Dial].
type Client struct {
	conn *net.UnixConn
	dec  *json.Decoder
	pid  int
}

// Dial connects to the machine that listens on a socket. When none does, the error wraps [ErrDown].
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return nil, fmt.Errorf("connect to machine: %w (%w)", ErrDown, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to machine: %w", err)
	}
	c := &Client{conn: conn.(*net.UnixConn), dec: json.NewDecoder(conn)}
	if c.pid, err = peerPID(c.conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// peerPID asks for the process that listened, whose number the kernel translates to the caller's
// namespace (SO_PEERCRED, unix(7)).
func peerPID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("find machine's process: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("find machine's process: %w", err)
	}
	if cerr != nil {
		return 0, fmt.Errorf("find machine's process: %w", cerr)
	}
	return int(cred.Pid), nil
}

// PID is the machine's process 1 as the caller's namespace numbers it.
func (c *Client) PID() int { return c.pid }

// Close ends the connection, and nothing else.
func (c *Client) Close() error { return c.conn.Close() }

// Start starts a process in the machine.
func (c *Client) Start(ctx context.Context, p Process) error {
	_, err := c.call(ctx, request{Op: "start", Process: p})
	return err
}

// Stop signals a process and waits for its end. One that does not run is stopped.
func (c *Client) Stop(ctx context.Context, name string, sig syscall.Signal) error {
	_, err := c.call(ctx, request{Op: "stop", Process: Process{Name: name}, Signal: int(sig)})
	return err
}

// Wait waits for a process to end and returns how it did.
func (c *Client) Wait(ctx context.Context, name string) (Status, error) {
	r, err := c.call(ctx, request{Op: "wait", Process: Process{Name: name}})
	if err != nil {
		return Status{}, err
	}
	return r.Processes[0], nil
}

// List returns all processes that were started, by name.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	r, err := c.call(ctx, request{Op: "list"})
	return r.Processes, err
}

// call sends a request and reads the reply. When ctx ends first, so does the connection.
func (c *Client) call(ctx context.Context, req request) (reply, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	var r reply
	err := json.NewEncoder(c.conn).Encode(req)
	if err == nil {
		err = c.dec.Decode(&r)
	}
	if err != nil {
		return r, fmt.Errorf("ask the machine to %s %s: %w", req.Op, req.Process.Name, errors.Join(err, context.Cause(ctx)))
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s %s: %s", req.Op, req.Process.Name, r.Error)
	}
	return r, nil
}

// Kill kills the machine, and waits for nothing.
func (c *Client) Kill() error {
	fd, err := unix.PidfdOpen(c.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", c.pid, err)
	}
	defer unix.Close(fd)
	// Only while the descriptor is of the process that we are connected to.
	if !c.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", c.pid, err)
	}
	return nil
}

// alive is whether the other end of the connection is open.
func (c *Client) alive() bool {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		open = n > 0 || errors.Is(err, unix.EAGAIN)
	})
	return err == nil && open
}
