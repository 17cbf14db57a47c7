//go:build linux

package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// Host is a network namespace with a name.
type Host struct {
	// Name is unique in its world.
	Name string
	// V4 and V6 are its addresses on the underlay, or behind its router.
	V4, V6 netip.Addr

	w  *World
	ns *netns.Handle
}

func (h *Host) addUnderlay(n int) { h.V4, h.V6 = nth(UnderlayV4, n), nth(UnderlayV6, n) }

// NetNS is the name that ip-netns(8) knows the host by.
func (h *Host) NetNS() string { return h.w.prefix + h.Name }

// Path is the namespace's file.
func (h *Host) Path() string { return namedDir + "/" + h.NetNS() }

// Handle is the namespace; it stays the world's.
func (h *Host) Handle() *netns.Handle { return h.ns }

// Do runs fn on a thread that is in the host. Goroutines that fn starts are not.
func (h *Host) Do(fn func() error) error { return h.ns.Do(fn) }

// Dial connects from the host. addr is an IP and a port: looking a name up would
// happen elsewhere.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial from %s: %q is not IP:port", h.Name, addr)
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens in the host; addr has an IP or no host at all.
func (h *Host) Listen(network, addr string) (net.Listener, error) {
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(h.w.ctx, network, addr)
		return err
	})
	return ln, err
}

// ListenPacket opens a packet socket in the host.
func (h *Host) ListenPacket(network, addr string) (net.PacketConn, error) {
	var pc net.PacketConn
	err := h.Do(func() (err error) {
		pc, err = new(net.ListenConfig).ListenPacket(h.w.ctx, network, addr)
		return err
	})
	return pc, err
}

// Cmd is an [exec.Cmd] that runs in a host. Set the fields of exec.Cmd before
// starting; only the methods of Cmd start it in the host. It gets SIGTERM when its
// context or its world ends, and SIGKILL when this process does.
type Cmd struct {
	*exec.Cmd
	h      *Host
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Command prepares a program to run in the host.
func (h *Host) Command(ctx context.Context, path string, args ...string) *Cmd {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(h.w.ctx, cancel) //nolint:contextcheck // ends with either
	c := exec.CommandContext(ctx, path, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 5 * time.Second
	return &Cmd{Cmd: c, h: h, cancel: cancel, done: make(chan struct{})}
}

// Start starts the program. The thread that forks it is in the host and stays
// until the program ends, since Pdeathsig is bound to the forking thread (prctl(2)).
func (c *Cmd) Start() error {
	started := make(chan error, 1)
	c.h.w.procs.Go(func() {
		defer close(c.done)
		defer c.cancel()
		c.err = c.h.Do(func() error {
			err := c.Cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return c.Cmd.Wait()
		})
		select {
		case started <- c.err: // the namespace could not be entered
		default:
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("start %s in %s: %w", c.Path, c.h.Name, err)
	}
	return nil
}

// Done is closed when the program has ended.
func (c *Cmd) Done() <-chan struct{} { return c.done }

// Wait waits for the end of the program and returns its error.
func (c *Cmd) Wait() error {
	<-c.done
	return c.err
}

// Stop ends the program and waits for it. Being ended so is no error.
func (c *Cmd) Stop() error {
	c.cancel()
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// CombinedOutput runs the program and returns what it printed.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Output runs the program and returns what it printed on standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}
