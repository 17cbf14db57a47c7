//go:build linux

// Package tailscaled builds and runs an official tailscaled, which the benches measure ours against.
//
// It promises that it is Tailscale's own, stripped, with a configuration file and a kernel TUN, as quiet as ours is: no log
// upload, no port mapping. It must never touch the machine's own network, nor its DNS, which a tailscaled would: it runs in
// a mount namespace without /etc and the system bus.
package tailscaled

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"tailscale.com/client/local"
	"tailscale.com/ipn"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Options say what to run where.
type Options struct {
	// Host is the network namespace.
	Host *world.Host
	// Binary is the program's path; "": see [Build].
	Binary string
	// Dir is a folder of its own, for state, configuration and socket.
	Dir string
	// Conf is its configuration file.
	Conf ipn.ConfigVAlpha
}

// Process is a tailscaled, which may be stopped. Make it with [New].
type Process struct {
	o   Options
	log tail

	mu  sync.Mutex
	cmd *world.Cmd
}

// New prepares one, and builds it if need be. It is stopped.
func New(ctx context.Context, o Options) (*Process, error) {
	if o.Binary == "" {
		var err error
		if o.Binary, err = Build(ctx); err != nil {
			return nil, err
		}
	}
	p := &Process{o: o}
	return p, p.write()
}

// Build builds it from its own module, as it is distributed but stripped, and returns its path; Go's build cache makes it quick
// the second time.
func Build(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	bin := filepath.Join(root, ".cache", "bin")
	cmd := exec.CommandContext(ctx, "go", "-C", "test/tools/tailscale", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "tool")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tailscaled: %w\n%s", err, out)
	}
	return filepath.Join(bin, "tailscaled"), nil
}

// Start returns when the program has been executed.
func (p *Process) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The helper hides the machine's own DNS and then becomes tailscaled.
	cmd := p.o.Host.Command(context.WithoutCancel(ctx), "/proc/self/exe", p.o.Binary,
		"--config="+p.file(), "--statedir="+p.stateDir(), "--socket="+p.LocalAPI(), "--port=41641", "--tun="+ident.TUN)
	cmd.Env = append(os.Environ(), roleEnv+"=1",
		"TS_NO_LOGS_NO_SUPPORT=true", "TS_DISABLE_PORTMAPPER=1", "TS_DEBUG_FIREWALL_MODE=nftables")
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	executed, told, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start tailscaled: %w", err)
	}
	defer executed.Close()
	cmd.ExtraFiles = []*os.File{told}
	err = cmd.Start()
	_ = told.Close()
	if err != nil {
		return err
	}
	problem, err := io.ReadAll(executed)
	if err == nil && len(problem) > 0 {
		err = errors.New(string(problem))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start tailscaled: %w", err), cmd.Stop())
	}
	p.cmd = cmd
	return nil
}

// Stop ends it with SIGTERM, and waits for the end.
func (p *Process) Stop() error { return p.end((*world.Cmd).Stop) }

// Kill ends it with SIGKILL, and waits for the end.
func (p *Process) Kill() error {
	return p.end(func(cmd *world.Cmd) error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill tailscaled: %w", err)
		}
		<-cmd.Done()
		return nil
	})
}

func (p *Process) end(how func(*world.Cmd) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	return how(cmd)
}

// Running is whether it runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.cmd.Done():
		return false
	default:
		return true
	}
}

// PID is the ID of the process; 0: it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Binary is the path of the program.
func (p *Process) Binary() string { return p.o.Binary }

// LocalAPI is the path of Tailscale's LocalAPI socket.
func (p *Process) LocalAPI() string { return filepath.Join(p.o.Dir, "tailscaled.sock") }

func (p *Process) file() string     { return filepath.Join(p.o.Dir, "config.json") }
func (p *Process) stateDir() string { return filepath.Join(p.o.Dir, "state") }

// Configure changes the configuration file and asks for it to be read, as "tailscale debug reload-config" does: tailscaled
// does not look by itself.
func (p *Process) Configure(ctx context.Context, change func(*ipn.ConfigVAlpha)) error {
	change(&p.o.Conf)
	if err := p.write(); err != nil {
		return err
	}
	ok, err := (&local.Client{Socket: p.LocalAPI(), UseSocketOnly: true}).ReloadConfig(ctx)
	if err == nil && !ok {
		err = errors.New("it has no configuration file")
	}
	if err != nil {
		return fmt.Errorf("ask tailscaled to reload: %w", err)
	}
	return nil
}

// Log is the end of what it wrote.
func (p *Process) Log() string { return p.log.String() }

func (p *Process) write() error {
	b, err := json.Marshal(p.o.Conf)
	if err == nil {
		err = os.WriteFile(p.file()+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(p.file()+".new", p.file())
	}
	if err != nil {
		return fmt.Errorf("write tailscaled's configuration: %w", err)
	}
	return nil
}

// Forget removes the identity of one that is stopped.
func (p *Process) Forget() error {
	if err := os.RemoveAll(p.stateDir()); err != nil {
		return fmt.Errorf("forget tailscaled's identity: %w", err)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - 64<<10; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
