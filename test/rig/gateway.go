//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// GatewayOptions say how a gateway is run.
type GatewayOptions struct {
	// Name is the host's and the node's; "": "gateway".
	Name string
	// AuthKey is put where the configuration looks for it; "": a valid one is made.
	AuthKey string
	// StateDir keeps the identity; "": a folder of the rig's.
	StateDir string
	// Args are added to the command line.
	Args []string
	// Env is added to the environment, as "KEY=value".
	Env []string
	// Copy gets what the gateway logs, as it comes; nil: nobody.
	Copy io.Writer
}

// Gateway is a host that runs tailgate-gateway. It is made stopped.
type Gateway struct {
	*world.Host
	// Target is what members join.
	Target *joiner.Target

	r   *Rig
	o   GatewayOptions
	dir string
	log tail

	mu  sync.Mutex
	cmd *world.Cmd
}

// Ports of a rig's gateways.
const (
	publicPort = 9002
	debugPort  = 9001
)

// AddGateway makes a gateway with a folder, a configuration and an auth key of its own.
func (r *Rig) AddGateway(ctx context.Context, o GatewayOptions) (*Gateway, error) {
	if o.Name == "" {
		o.Name = "gateway"
	}
	h, err := r.World.AddHost(o.Name)
	if err != nil {
		return nil, fmt.Errorf("make gateway %s: %w", o.Name, err)
	}
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	g := &Gateway{Host: h, r: r, o: o, dir: filepath.Join(r.dir, o.Name)}
	g.log.copy = o.Copy
	if g.o.StateDir == "" {
		g.o.StateDir = filepath.Join(g.dir, "state")
	}
	for _, sub := range []string{"config", "auth"} {
		if err := os.MkdirAll(filepath.Join(g.dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make gateway %s: %w", o.Name, err)
		}
	}
	if g.o.AuthKey == "" {
		g.o.AuthKey = r.Tailnet.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{Tag}}).Secret
	}
	if err := g.SetAuthKey(g.o.AuthKey); err != nil {
		return nil, err
	}
	if _, err := g.WriteConfig(nil); err != nil {
		return nil, err
	}
	if g.Target, err = joiner.NewTarget(h.Handle()); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.gateways = append(r.gateways, g)
	r.mu.Unlock()
	return g, nil
}

// build makes the gateway's binary as the Taskfile does, once a rig; Go's build cache makes it quick
// when nothing has changed.
func (r *Rig) build(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Binary != "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "task", "build", "ONLY=gateway", "BIN="+r.dir)
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tailgate-gateway: %w\n%s", err, out)
	}
	r.o.Binary = filepath.Join(r.dir, "tailgate-gateway")
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Binary is the path of the gateway's program.
func (g *Gateway) Binary() string { return g.r.o.Binary }

// Socket is the path of one of the gateway's unix sockets.
func (g *Gateway) Socket(name string) string { return filepath.Join(g.dir, "run", name) }

// ConfigFile is the path of its configuration.
func (g *Gateway) ConfigFile() string { return filepath.Join(g.dir, "config", configFile) }

// StateDir keeps the gateway's identity.
func (g *Gateway) StateDir() string { return g.o.StateDir }

// Start runs the program; it returns when the process is there, not when it is ready.
func (g *Gateway) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd != nil {
		return fmt.Errorf("gateway %s runs already", g.Name)
	}
	level := "info"
	if g.r.o.Verbose {
		level = "debug"
	}
	args := slices.Concat([]string{
		"--config", g.ConfigFile(), "--state-dir", g.o.StateDir,
		"--socket-dir", filepath.Join(g.dir, "run"), "--resolvers", g.r.Cluster.V4.String(), "--log-level", level,
		"--addr", fmt.Sprintf(":%d", publicPort), "--debug-addr", fmt.Sprintf("127.0.0.1:%d", debugPort),
	}, g.o.Args)
	cmd := g.Command(context.WithoutCancel(ctx), g.r.o.Binary, args...)
	cmd.Stdout, cmd.Stderr = &g.log, &g.log
	cmd.Env = append(os.Environ(), g.o.Env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	g.cmd = cmd
	return nil
}

// Kill ends the process as a crash does (SIGKILL) and waits for its end.
func (g *Gateway) Kill() error {
	return g.end(func(cmd *world.Cmd) error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill gateway %s: %w", g.Name, err)
		}
		<-cmd.Done()
		return nil
	})
}

// Stop ends the process as a kubelet does (SIGTERM) and waits for its end. An exit status other than 0 is
// an error.
func (g *Gateway) Stop() error {
	return g.end(func(cmd *world.Cmd) error {
		err := cmd.Stop()
		if status := cmd.ProcessState; err == nil && status != nil && status.ExitCode() != 0 {
			err = fmt.Errorf("stop gateway %s: %v", g.Name, status)
		}
		return err
	})
}

func (g *Gateway) end(how func(*world.Cmd) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return nil
	}
	cmd := g.cmd
	g.cmd = nil
	return how(cmd)
}

// Running says whether there is a process.
func (g *Gateway) Running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return false
	}
	select {
	case <-g.cmd.Done():
		return false
	default:
		return true
	}
}

// PID is the process's; 0: none.
func (g *Gateway) PID() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil {
		return 0
	}
	return g.cmd.Process.Pid
}

// DualStackNames lets the gateway's MagicDNS answer AAAA for peers, which the tailnet grants by a node
// attribute. The gateway must have logged in.
func (g *Gateway) DualStackNames() error {
	return g.r.Tailnet.SetNodeAttr(g.Name, tailcfg.NodeAttrMagicDNSPeerAAAA)
}

// Public is the address of /healthz, /readyz and /metrics on the cluster's network.
func (g *Gateway) Public() netip.AddrPort { return netip.AddrPortFrom(g.V4, publicPort) }

// Log returns what the gateway wrote on standard error, over all its processes: the last megabyte.
func (g *Gateway) Log() string { return g.log.String() }

// LogMark is a place in the log, for [Gateway.WaitLog].
type LogMark int

// LogEnd is where the log ends now.
func (g *Gateway) LogEnd() LogMark { return LogMark(g.log.end()) }

// WaitLog waits until a line that was written after the mark has every one of the words, and returns it.
func (g *Gateway) WaitLog(ctx context.Context, after LogMark, words ...string) (string, error) {
	for {
		text, changed := g.log.after(int(after))
		for line := range strings.Lines(text) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return strings.TrimSpace(line), nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("no line with %q in the log of %s: %w", words, g.Name, ctx.Err())
		}
	}
}

func (g *Gateway) close() error {
	err := g.Kill()
	if g.Target != nil {
		g.Target.Close()
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	copy io.Writer

	mu      sync.Mutex
	buf     []byte
	dropped int // bytes before buf
	changed chan struct{}
}

const tailSize = 1 << 20

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = slices.Clone(t.buf[over:])
		t.dropped += over
	}
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
	if t.copy != nil {
		return t.copy.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

func (t *tail) end() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped + len(t.buf)
}

func (t *tail) after(mark int) (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return string(t.buf[max(mark-t.dropped, 0):]), t.changed
}
