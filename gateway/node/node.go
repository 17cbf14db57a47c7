package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/types/logger"
	"tailscale.com/types/views"
	"tailscale.com/util/dnsname"
	"tailscale.com/wgengine/router"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Options say what a node is made of. All without a default are needed.
type Options struct {
	// Config is the path of the configuration file (Tailscale's "alpha0" format).
	Config string
	// StateDir keeps the node's identity and the cached netmap; made if absent, 0700.
	StateDir string
	// SocketDir gets the unix sockets [SnapshotSocket] and [LocalAPISocket]; made if absent, 0700.
	SocketDir string
	// TUN is the name of the tunnel device; "" is ident.TUN.
	TUN string
	// Port is the UDP port of WireGuard; 0 is 41641, Tailscale's own. Never random: peers keep sending to
	// it while the process is away.
	Port uint16
	// Hostname is what the node is called when the configuration names it nothing; made a DNS label as by
	// [HostLabel]. "": the machine's name.
	Hostname string
	// Resolvers are the cluster's resolvers, for names that the tailnet says nothing of; none: such
	// names do not resolve.
	Resolvers []netip.Addr
	// ClusterDomains go to Resolvers whatever the tailnet's own nameservers are.
	ClusterDomains []dnsname.FQDN
	// Dataplane programs the kernel.
	Dataplane *dataplane.Dataplane
	// Version is the build's, for the snapshot.
	Version string
	// Logger gets the node's log; the engine's own lines are at debug level.
	Logger *slog.Logger
}

// Names of the unix sockets in Options.SocketDir, both 0600.
const (
	// SnapshotSocket serves package snapshot.
	SnapshotSocket = ident.SnapshotSocket
	// LocalAPISocket serves Tailscale's LocalAPI, as for "tailscale --socket".
	LocalAPISocket = "tailscaled.sock"
)

const defaultPort = 41641 // registered by Tailscale with IANA

// Node is a gateway's Tailscale node. Make it with [New], start it with [Node.Run].
type Node struct {
	o      Options
	log    *slog.Logger
	loader *config.Loader
	pub    snapshot.Publisher
	wake   chan struct{} // something may have changed; capacity 1
	bus    busState      // what the engine told

	change  sync.Mutex // held while the engine is told to change
	started bool       // the engine was started; guarded by change
	// inForce is what the engine was told last; nil: nothing yet. The loader's is older until onConfig has returned: who follows
	// that one would undo the change. Guarded by change.
	inForce *config.Config

	want   sync.Mutex       // held until the dataplane has what is guarded by it, so that the last said is the last applied
	intent topology.Gateway // what the engine wants of the kernel
	routed bool             // the engine spoke of routes

	mu     sync.Mutex
	b      *backend          // nil until the state folder is there and the engine is made
	last   snapshot.Snapshot // as published
	exit   exitState
	login  loginState
	broken error // why there is no backend yet
}

// New returns a node that has done nothing yet.
func New(o Options) *Node {
	if o.TUN == "" {
		o.TUN = ident.TUN
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	n := &Node{o: o, log: o.Logger, wake: make(chan struct{}, 1)}
	n.loader = config.NewLoader(config.LoaderOptions{Path: o.Config, OnChange: n.onConfig, OnError: func(err error) {
		n.log.Error("configuration", "err", err)
		n.poke()
	}, OnApplied: n.poke})
	o.Dataplane.Notify(n.poke)
	return n
}

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run is the node until ctx ends, then nil. It returns an error only for what waiting cannot
// mend: a TUN that cannot be opened, sockets that cannot be made.
func (n *Node) Run(ctx context.Context) error {
	stop, err := n.serveSockets()
	if err != nil {
		return err
	}
	defer stop()
	if err := n.publish(); err != nil {
		return err
	}
	if err := n.awaitState(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	dev, err := openTUN(n.o.TUN, ident.MTU)
	if err != nil {
		return err
	}
	// Before the engine, so that it finds the TUN up, and whatever the engine says later
	// nothing is forwarded that should not be.
	if err := n.o.Dataplane.Attach(); err != nil {
		n.log.Error("the kernel is not as wanted", "err", err)
	}
	b, err := newBackend(n.o, dev, hooks{routes: n.setRoutes, nameservers: n.setNameservers, state: n.poke}, n.engineLog(ctx))
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	defer b.shutdown()
	n.mu.Lock()
	n.b = b
	n.mu.Unlock()
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.loop(ctx)
}

// awaitState waits until the state folder can be written. Without it the node would
// get a new identity at each start, and leave a dead device behind on the tailnet each time.
func (n *Node) awaitState(ctx context.Context) error {
	const retry = 2 * time.Second
	said := ""
	for {
		err := checkState(n.o.StateDir)
		n.mu.Lock()
		n.broken = err
		n.mu.Unlock()
		if err == nil {
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			n.log.Error("cannot start", "err", err)
		}
		if err := n.publish(); err != nil {
			return err
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return nil
		}
	}
}

// start brings the engine up with the preferences of the configuration file, or, when there is
// no good one, with those of the last good one, which the engine kept.
func (n *Node) start(ctx context.Context) error {
	go n.watchBus(ctx)
	// A file that is not good is in the status, in the log, and watched.
	n.loader.Reload(ctx)
	n.change.Lock()
	defer n.change.Unlock()
	if n.started {
		return nil
	}
	n.started = true
	if err := n.b.Start(ipn.Options{}); err != nil {
		return fmt.Errorf("start backend: %w", err)
	}
	return nil
}

// onConfig puts a changed configuration into force.
func (n *Node) onConfig(_ context.Context, c config.Change) error {
	n.change.Lock()
	defer n.change.Unlock()
	defer n.poke()
	if c.AuthKeyChanged {
		n.login.retry()
	}
	if !c.ConfigChanged {
		return nil
	}
	running := n.b.Prefs().ControlURL()
	if n.started && c.Config.Prefs.ControlURL != running && n.b.State() >= ipn.Starting {
		return fmt.Errorf("ServerURL cannot change from %q to %q while the gateway runs, because the node belongs to the first; put it back, or replace the gateway's pod and state", running, c.Config.Prefs.ControlURL)
	}
	edits := n.prefsFor(c.Config)
	if n.started {
		if _, err := n.b.EditPrefs(&edits); err != nil {
			return fmt.Errorf("apply preferences: %w", err)
		}
	} else {
		prefs := n.b.Prefs().AsStruct()
		prefs.ApplyEdits(&edits)
		n.exitApplied().ApplyTo(prefs) // Start, unlike EditPrefs, does not see to what goes with an ID
		if err := n.b.Start(ipn.Options{UpdatePrefs: prefs}); err != nil {
			return fmt.Errorf("start backend: %w", err)
		}
		n.started = true
	}
	n.inForce = c.Config
	n.b.sys.MagicSock.Get().SetStaticEndpoints(views.SliceOf(c.Config.StaticEndpoints))
	n.log.Info("configuration applied", "config", c.Config)
	return nil
}

// loop follows the engine. Only it and onConfig change the engine, one at a time.
func (n *Node) loop(ctx context.Context) error {
	watched := make(chan error, 1)
	go func() { watched <- n.loader.Run(ctx) }()
	for {
		n.change.Lock()
		n.followExitNode()
		n.loginIfNeeded(ctx)
		n.change.Unlock()
		if err := n.publish(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-watched:
			if ctx.Err() == nil {
				return fmt.Errorf("watch configuration: %w", err)
			}
		case <-n.wake:
		}
	}
}

// setRoutes is called by the engine, with its locks held.
func (n *Node) setRoutes(c *router.Config) error {
	return n.setIntent(func(g *topology.Gateway) {
		g.Addrs, g.Routes, g.Local = c.LocalAddrs, c.Routes, c.LocalRoutes
		n.routed = true
	})
}

// setNameservers is called by the engine, with its locks held.
func (n *Node) setNameservers(as []netip.Addr) {
	n.want.Lock()
	same := slices.Equal(n.intent.Nameservers, as)
	n.want.Unlock()
	if !same {
		// The error is in the dataplane's status; the routes to come try again.
		_ = n.setIntent(func(g *topology.Gateway) { g.Nameservers = as })
	}
}

// setIntent changes the intent and applies it once routes were heard of: until then the kernel
// keeps what the process before this one left.
func (n *Node) setIntent(change func(*topology.Gateway)) error {
	defer n.poke()
	n.want.Lock()
	defer n.want.Unlock()
	change(&n.intent)
	if !n.routed {
		return nil
	}
	return n.o.Dataplane.Set(n.intent)
}

// engineLog sends the engine's lines to the debug level. They hold keys' short forms and
// peers' addresses, never secrets.
func (n *Node) engineLog(ctx context.Context) logger.Logf {
	log := n.log.With("from", "engine")
	return func(format string, args ...any) {
		if n.login.notice(args) {
			n.poke()
		}
		if log.Enabled(ctx, slog.LevelDebug) {
			log.DebugContext(ctx, fmt.Sprintf(format, args...))
		}
	}
}

func (n *Node) socket(name string) string { return filepath.Join(n.o.SocketDir, name) }

func (n *Node) exitFile() string { return filepath.Join(n.o.StateDir, "exit-node.json") }

// backendOrNil returns the backend once there is one.
func (n *Node) backendOrNil() *backend {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make socket folder %s; choose one that the gateway may write with --socket-dir: %w", dir, err)
	}
	return nil
}
