//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tailscale.com/client/local"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// tableTailscale is where tailscaled puts its routes (tailscale.com/wgengine/router/osrouter).
const tableTailscale = 52

// official is an official tailscaled that an operator made a gateway of, in the simplest way that does what ours
// does: kernel TUN, its own netfilter rules and policy routing, forwarding on, the member on the same
// kind of link. tailscaled masquerades only what comes from the tailnet to a subnet that it routes, so that the
// operator adds a masquerade of what goes out by tailscale0 and the MSS clamp that goes with it, as
// Tailscale's own egress proxy for Kubernetes does; and unreachable routes for the tailnet's prefixes, without which
// the member's running connections would be sent out by eth0 while tailscaled is away and never come back. It is quiet as
// ours is: no log upload, no port mapping.
type official struct {
	host *world.Host
	conf ipn.ConfigVAlpha
	path string // the program's
	dir  string
	log  tail

	mu  sync.Mutex
	cmd *world.Cmd
}

func newOfficial(ctx context.Context, r *rig.Rig, s settings, dir string) (*side, error) {
	h, err := r.AddHost("official")
	if err != nil {
		return nil, fmt.Errorf("make the official gateway: %w", err)
	}
	o := &official{host: h, path: s.tailscaled, dir: dir}
	if o.path == "" {
		if o.path, err = buildTailscaled(ctx); err != nil {
			return nil, err
		}
	}
	o.conf = ipn.ConfigVAlpha{
		Version: "alpha0", Locked: opt.NewBool(false), ServerURL: new(r.Tailnet.ControlURL()), Hostname: new(h.Name),
		AuthKey:      new(r.Tailnet.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{rig.Tag}}).Secret),
		AcceptRoutes: opt.NewBool(true), AcceptDNS: opt.NewBool(false),
	}
	if err := o.write(); err != nil {
		return nil, err
	}
	t, err := joiner.NewTarget(h.Handle())
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if err := operate(h); err != nil {
		return nil, err
	}
	return newSide(ctx, r, "theirs", o, h, t, tableTailscale)
}

// buildTailscaled builds it from its own module, as it is distributed but stripped; Go's build cache makes it quick the
// second time.
func buildTailscaled(ctx context.Context) (string, error) {
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

// operate is what the operator adds; see [official].
func operate(h *world.Host) (err error) {
	nft, err := ruleset.Open(h.Handle().FD())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nft.Close()) }()
	out := ruleset.Oif(ident.TUN)
	_, err = nft.Apply(ruleset.Table{Name: "operator", Chains: []ruleset.Chain{
		{
			Name: "mss", Type: ruleset.TypeFilter, Hook: ruleset.HookForward, Priority: ruleset.PriorityMangle, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{{Matches: []ruleset.Match{out, ruleset.TCPSyn()}, Action: ruleset.ClampMSS()}},
		},
		{
			Name: "masquerade", Type: ruleset.TypeNAT, Hook: ruleset.HookPostrouting, Priority: ruleset.PrioritySNAT, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{{Matches: []ruleset.Match{out}, Action: ruleset.Masquerade()}},
		},
	}})
	if err != nil {
		return err
	}
	for _, p := range topology.TailnetPrefixes() {
		err := h.Do(func() error {
			return netlink.RouteReplace(&netlink.Route{Dst: ipnet(p), Type: unix.RTN_UNREACHABLE, Priority: ident.MetricFallback})
		})
		if err != nil {
			return fmt.Errorf("make %v unreachable in %s: %w", p, h.Name, err)
		}
	}
	return nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (o *official) start(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	// The helper hides the machine's own DNS and then becomes tailscaled.
	cmd := o.host.Command(context.WithoutCancel(ctx), "/proc/self/exe", o.path,
		"--config="+o.file(), "--statedir="+o.stateDir(), "--socket="+o.localAPI(), "--port=41641", "--tun="+ident.TUN)
	cmd.Env = append(os.Environ(), roleEnv+"="+roleHide,
		"TS_NO_LOGS_NO_SUPPORT=true", "TS_DISABLE_PORTMAPPER=1", "TS_DEBUG_FIREWALL_MODE=nftables")
	cmd.Stdout, cmd.Stderr = &o.log, &o.log
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
	o.cmd = cmd
	return nil
}

func (o *official) stop() error { return o.end((*world.Cmd).Stop) }

func (o *official) kill() error {
	return o.end(func(cmd *world.Cmd) error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill tailscaled: %w", err)
		}
		<-cmd.Done()
		return nil
	})
}

func (o *official) end(how func(*world.Cmd) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cmd == nil {
		return nil
	}
	cmd := o.cmd
	o.cmd = nil
	return how(cmd)
}

func (o *official) running() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cmd == nil {
		return false
	}
	select {
	case <-o.cmd.Done():
		return false
	default:
		return true
	}
}

func (o *official) pid() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cmd == nil {
		return 0
	}
	return o.cmd.Process.Pid
}

func (o *official) binary() string   { return o.path }
func (o *official) localAPI() string { return filepath.Join(o.dir, "tailscaled.sock") }
func (o *official) file() string     { return filepath.Join(o.dir, "config.json") }
func (o *official) stateDir() string { return filepath.Join(o.dir, "state") }

// acceptRoutes writes the file and asks for it to be read, as "tailscale debug reload-config" does: tailscaled
// does not look by itself.
func (o *official) acceptRoutes(ctx context.Context, on bool) error {
	o.conf.AcceptRoutes = opt.NewBool(on)
	if err := o.write(); err != nil {
		return err
	}
	ok, err := (&local.Client{Socket: o.localAPI(), UseSocketOnly: true}).ReloadConfig(ctx)
	if err == nil && !ok {
		err = errors.New("it has no configuration file")
	}
	if err != nil {
		return fmt.Errorf("ask tailscaled to reload: %w", err)
	}
	return nil
}

func (o *official) write() error {
	b, err := json.Marshal(o.conf)
	if err == nil {
		err = os.WriteFile(o.file()+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(o.file()+".new", o.file())
	}
	if err != nil {
		return fmt.Errorf("write tailscaled's configuration: %w", err)
	}
	return nil
}

func (o *official) forget() error {
	if err := os.RemoveAll(o.stateDir()); err != nil {
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
