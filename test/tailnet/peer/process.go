//go:build linux

package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"tailscale.com/net/dns/resolvconffile"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// env holds the configuration of a process that is to be a peer. Other users cannot
// read a process's environment, unlike its arguments.
const env = "TAILNET_PEER"

// MaybeRun is to be called first in main or TestMain. In a process that [Start] made it
// is the peer and never returns; in any other it does nothing.
func MaybeRun() {
	conf, ok := os.LookupEnv(env)
	if !ok {
		return
	}
	var c Config
	err := json.Unmarshal([]byte(conf), &c)
	if err == nil && c.Resolver.IsValid() {
		err = ownResolver(c.Resolver)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		err = Run(ctx, c, os.Stdout)
		stop()
	}
	if err == nil {
		os.Exit(0)
	}
	_ = json.NewEncoder(os.Stdout).Encode(Ready{Name: c.Name, Error: err.Error()})
	os.Exit(1)
}

// ownResolver gives this process, which has its mounts for itself, a resolv.conf of its own.
func ownResolver(a netip.Addr) (err error) {
	f, err := os.CreateTemp("", "resolv.conf-")
	if err != nil {
		return fmt.Errorf("write resolv.conf: %w", err)
	}
	_, err = fmt.Fprintln(f, "nameserver", a)
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Mount(f.Name(), resolvconffile.Path, "", unix.MS_BIND, "")
	}
	// The mount keeps the file.
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return fmt.Errorf("put a resolv.conf in place of %s: %w", resolvconffile.Path, err)
	}
	return nil
}

// Peer is a running peer process.
type Peer struct {
	Ready
	cmd *world.Cmd
	log *tail
}

// Start runs a peer in host h and waits until it is up. The program that calls it is
// run again for that, and must call [MaybeRun].
func Start(ctx context.Context, h *world.Host, c Config) (*Peer, error) {
	conf, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode configuration of peer %s: %w", c.Name, err)
	}
	// The process outlives ctx, which bounds the start only.
	cmd := h.Command(context.WithoutCancel(ctx), "/proc/self/exe")
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start peer %s: %w", c.Name, err)
	}
	defer out.Close()
	p := &Peer{cmd: cmd, log: &tail{}}
	cmd.Stdout, cmd.Stderr = in, p.log
	if c.Resolver.IsValid() {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Env = append(os.Environ(), env+"="+string(conf), "TS_NO_LOGS_NO_SUPPORT=true", "TS_DISABLE_PORTMAPPER=1")
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, out); err != nil {
		return nil, errors.Join(fmt.Errorf("peer %s: %w", c.Name, err), cmd.Stop())
	}
	return p, nil
}

func (p *Peer) await(ctx context.Context, out *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	defer stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("not up: %w; last said:\n%s", ctx.Err(), p.Log())
	case err != nil:
		return fmt.Errorf("ended before it was up; last said:\n%s", p.Log())
	}
	if err := json.Unmarshal(line, &p.Ready); err != nil {
		return fmt.Errorf("said %q: %w", line, err)
	}
	if p.Error != "" {
		return errors.New(p.Error)
	}
	return nil
}

// Stop ends the peer; its node stays in the tailnet, offline.
func (p *Peer) Stop() error { return p.cmd.Stop() }

// Done is closed when the process has ended.
func (p *Peer) Done() <-chan struct{} { return p.cmd.Done() }

// PID is the process's.
func (p *Peer) PID() int { return p.cmd.Process.Pid }

// Log returns the last of what the peer wrote to standard error.
func (p *Peer) Log() string { return p.log.String() }

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - tailSize; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
