package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"

	"github.com/tailscale/wireguard-go/tun"
	"tailscale.com/control/controlclient"
	_ "tailscale.com/feature/netlog"      // network flow logs, when asked for
	_ "tailscale.com/feature/tailnetlock" // a tailnet with Tailnet Lock hides unsigned peers from nodes that know it
	_ "tailscale.com/feature/useproxy"    // clusters that reach the internet through HTTPS_PROXY
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnlocal"
	"tailscale.com/ipn/store"
	"tailscale.com/net/dns"
	"tailscale.com/net/netmon"
	"tailscale.com/net/tsdial"
	"tailscale.com/tailcfg"
	"tailscale.com/tsd"
	"tailscale.com/types/logger"
	"tailscale.com/types/logid"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/netstack"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg"
)

// kernelRouter hands Tailscale's idea of the operating system's routes to the gateway.
type kernelRouter struct {
	set func(*router.Config) error
}

func (kernelRouter) Up() error { return nil }

func (r kernelRouter) Set(c *router.Config) error {
	if c == nil {
		return nil // the engine closes
	}
	return r.set(c)
}

// Close leaves the kernel as it is: the next process finds it and goes on.
func (kernelRouter) Close() error { return nil }

// engine is Tailscale's, with the cluster's DNS put into what control says of it.
type engine struct {
	wgengine.Engine
	dns            clusterDNS
	setNameservers func([]netip.Addr)
}

func (e engine) Reconfig(w *wgcfg.Config, r *router.Config, d *dns.Config) error {
	d = e.dns.adjust(d)
	e.setNameservers(e.dns.tailnets(d))
	return e.Engine.Reconfig(w, r, d)
}

// stateStore remembers whether the last write failed: the engine only logs that.
type stateStore struct {
	ipn.StateStore
	err     atomic.Pointer[error]
	changed func()
}

func (s *stateStore) WriteState(id ipn.StateKey, bs []byte) error {
	err := s.StateStore.WriteState(id, bs)
	if err != nil {
		err = fmt.Errorf("write state: %w", err)
	}
	if old := s.err.Swap(&err); (old != nil && *old != nil) != (err != nil) {
		s.changed()
	}
	return err
}

func (s *stateStore) lastError() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// backend is one assembled Tailscale node.
type backend struct {
	*ipnlocal.LocalBackend
	sys   *tsd.System
	store *stateStore
	close []func()
}

// hooks are called by the engine, some with its locks held: they must not ask it anything.
type hooks struct {
	routes      func(*router.Config) error
	nameservers func([]netip.Addr)
	state       func() // writing the state began or ceased to fail
}

// newBackend assembles what tsnet.Server.start and cmd/tailscaled assemble. dev must be up:
// the engine probes its offloads.
func newBackend(o Options, dev tun.Device, h hooks, logf logger.Logf) (_ *backend, err error) {
	b := &backend{sys: tsd.NewSystem()}
	defer func() {
		if err != nil {
			b.shutdown()
		}
	}()
	// Otherwise the monitor takes the TUN's own addresses for a change of the network, and
	// has the engine bind its sockets anew a second after the first start.
	netmon.SetTailscaleInterfaceProps(o.TUN, 0)
	mon, err := netmon.New(b.sys.Bus.Get(), logf)
	if err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	b.close = append(b.close, func() { _ = mon.Close() })
	b.sys.Set(mon)

	disco, err := discoKey(o.StateDir)
	if err != nil {
		return nil, err
	}
	dialer := &tsdial.Dialer{Logf: logf}
	dialer.SetBus(b.sys.Bus.Get())
	b.close = append(b.close, func() { _ = dialer.Close() })
	eng, err := wgengine.NewUserspaceEngine(logf, wgengine.Config{
		Tun:           dev,
		Router:        kernelRouter{set: h.routes},
		DNS:           resolvconf{nameservers: o.Resolvers},
		EventBus:      b.sys.Bus.Get(),
		NetMon:        mon,
		Dialer:        dialer,
		SetSubsystem:  b.sys.Set,
		ControlKnobs:  b.sys.ControlKnobs(),
		HealthTracker: b.sys.HealthTracker.Get(),
		Metrics:       b.sys.UserMetricsRegistry(),
		ListenPort:    o.Port,
		ForceDiscoKey: disco,
	})
	if err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	b.close = append(b.close, eng.Close)
	b.sys.Set(wgengine.Engine(engine{
		Engine: newHaste(eng, b.sys.MagicSock.Get(), logf), setNameservers: h.nameservers,
		dns: clusterDNS{nameservers: o.Resolvers, domains: o.ClusterDomains, tailnet: b.tailnetDNS},
	}))
	b.sys.HealthTracker.Get().SetMetricsRegistry(b.sys.UserMetricsRegistry())

	// netstack answers for 100.100.100.100 alone; all else is the kernel's.
	stack, err := netstack.Create(logf, b.sys.Tun.Get(), b.sys.Engine.Get(), b.sys.MagicSock.Get(), dialer, b.sys.DNSManager.Get(), b.sys.ProxyMapper())
	if err != nil {
		return nil, fmt.Errorf("start resolver: %w", err)
	}
	b.close = append(b.close, func() { _ = stack.Close() })
	b.sys.Set(stack)
	b.sys.Tun.Get().Start()

	st, err := store.New(logf, filepath.Join(o.StateDir, "tailscaled.state"))
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	b.store = &stateStore{StateStore: st, changed: h.state}
	b.sys.Set(ipn.StateStore(b.store))

	b.LocalBackend, err = ipnlocal.NewLocalBackend(logf, logid.PublicID{}, b.sys, controlclient.LoginDefault|controlclient.LocalBackendStartKeyOSNeutral)
	if err != nil {
		return nil, fmt.Errorf("make backend: %w", err)
	}
	b.SetVarRoot(o.StateDir)
	if err := stack.Start(b.LocalBackend); err != nil {
		return nil, fmt.Errorf("start resolver: %w", err)
	}
	return b, nil
}

// tailnetDNS is called from the engine's Reconfig, and takes no lock that its callers hold.
func (b *backend) tailnetDNS() *tailcfg.DNSConfig {
	if b.LocalBackend == nil {
		return nil
	}
	if nm := b.NetMapNoPeers(); nm != nil {
		return &nm.DNS
	}
	return nil
}

// shutdown ends the node; the kernel, the TUN among it, stays.
func (b *backend) shutdown() {
	if b.LocalBackend != nil {
		b.Shutdown() // closes the engine too
	}
	for i := len(b.close) - 1; i >= 0; i-- {
		b.close[i]()
	}
}

// device is the node's identity in the tailnet, as the netmap has it; "": there is none.
func (b *backend) device() tailcfg.StableNodeID {
	if nm := b.NetMapNoPeers(); nm != nil && nm.SelfNode.Valid() {
		return nm.SelfNode.StableID()
	}
	return ""
}

// login starts the control client over with an auth key and asks it to log in. Needed even for a
// key that replaces a refused one: the running client keeps the key it was made with.
func (b *backend) login(ctx context.Context, authKey string) error {
	if err := b.Start(ipn.Options{AuthKey: authKey}); err != nil {
		return fmt.Errorf("start login: %w", err)
	}
	if b.State() != ipn.NeedsLogin {
		return nil // there is a node key: Start has asked for it to be registered
	}
	if err := b.StartLoginInteractive(ctx); err != nil {
		return fmt.Errorf("start login: %w", err)
	}
	return nil
}
