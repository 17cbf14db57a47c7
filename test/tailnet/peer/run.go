//go:build linux

package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"

	"github.com/tailscale/wireguard-go/tun"
	"tailscale.com/client/local"
	_ "tailscale.com/feature/appconnectors" // for the role of an app connector
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsnet"
	"tailscale.com/wgengine/netstack"
)

// mtu is Tailscale's, in bytes.
const mtu = 1280

// Ready is what a peer says, as one line of JSON, when it is up.
type Ready struct {
	Name string
	// V4 and V6 are its tailnet addresses; invalid for a host that is no node.
	V4, V6 netip.Addr
	// StableID is its ID in the tailnet.
	StableID string
	// Error says why it did not come up, in the control plane's words as far as
	// they are known.
	Error string
}

// Run is a peer until ctx ends. When it is up it writes [Ready] to out.
func Run(ctx context.Context, c Config, out io.Writer) error {
	ready := Ready{Name: c.Name}
	if c.ControlURL != "" {
		n, err := startNode(ctx, c)
		if err != nil {
			return err
		}
		defer n.close()
		ready.V4, ready.V6, ready.StableID = n.v4, n.v6, n.id
	}
	if !c.NoServices {
		if err := serve(ctx, c.Name); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(out).Encode(ready); err != nil {
		return fmt.Errorf("say that peer %s is ready: %w", c.Name, err)
	}
	<-ctx.Done()
	return nil
}

// node is a running tsnet server on a TUN.
type node struct {
	srv    *tsnet.Server
	dir    string // temporary, to be removed
	v4, v6 netip.Addr
	id     string
}

func (n *node) close() {
	_ = n.srv.Close() // also closes the TUN
	if n.dir != "" {
		_ = os.RemoveAll(n.dir)
	}
}

func startNode(ctx context.Context, c Config) (_ *node, err error) {
	if c.TUN == "" {
		c.TUN = "tailscale0"
	}
	n := &node{}
	if c.StateDir == "" {
		if n.dir, err = os.MkdirTemp("", "tailnet-peer-"); err != nil {
			return nil, fmt.Errorf("make state folder: %w", err)
		}
		c.StateDir = n.dir
	}
	dev, err := tun.CreateTUN(c.TUN, mtu)
	if err != nil {
		return nil, fmt.Errorf("make TUN %s: %w", c.TUN, err)
	}
	// Up before the engine is made, which looks for the device's offloads then.
	if err := setupTUN(c); err != nil {
		return nil, err
	}
	n.srv = &tsnet.Server{
		Tun: dev, Dir: c.StateDir, Hostname: c.Name, AuthKey: c.AuthKey, ControlURL: c.ControlURL,
		Port: c.Port, Ephemeral: c.Ephemeral, UserLogf: func(string, ...any) {},
	}
	if c.Verbose {
		n.srv.Logf = log.Printf
	}
	if err := n.up(ctx, c); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) up(ctx context.Context, c Config) error {
	if err := n.srv.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", c.Name, err)
	}
	leaveToKernel(n.srv)
	lc, err := n.srv.LocalClient()
	if err != nil {
		return fmt.Errorf("start node %s: %w", c.Name, err)
	}
	if c.Socket != "" {
		if err := serveLocalAPI(ctx, c.Socket, lc); err != nil {
			return err
		}
	}
	if err := setPrefs(ctx, lc, c); err != nil {
		return fmt.Errorf("set preferences of %s: %w", c.Name, err)
	}
	st, err := n.srv.Up(ctx)
	if err != nil {
		return fmt.Errorf("bring node %s up: %w", c.Name, err)
	}
	n.id = string(st.Self.ID)
	n.v4, n.v6 = n.srv.TailscaleIPs()
	if err := addAddrs(c.TUN, st.TailscaleIPs); err != nil {
		return err
	}
	if c.UseExitNode != "" {
		if err := useExitNode(ctx, lc, c.UseExitNode); err != nil {
			return fmt.Errorf("use exit node %s: %w", c.UseExitNode, err)
		}
	}
	return nil
}

// leaveToKernel has the node work as tailscaled does where the kernel has the TUN. Tailscale's userspace stack forwards 4via6, rather than
// answer for tsnet's own listeners and refuse the rest; nothing else gets that far. And what the engine itself asks of peers, such as
// an app connector's resolver, goes by the kernel, which gets the answers.
func leaveToKernel(srv *tsnet.Server) {
	if ns, ok := srv.Sys().Netstack.Get().(*netstack.Impl); ok {
		ns.GetTCPHandlerForFlow, ns.GetUDPHandlerForFlow = nil, nil
	}
	srv.Sys().Dialer.Get().UseNetstackForIP = nil
}

func setPrefs(ctx context.Context, lc *local.Client, c Config) error {
	routes, err := c.advertised()
	if err != nil {
		return err
	}
	_, err = lc.EditPrefs(ctx, &ipn.MaskedPrefs{
		Prefs: ipn.Prefs{
			AdvertiseRoutes: routes, RouteAll: c.AcceptRoutes, NoSNAT: c.NoMasquerade,
			AppConnector: ipn.AppConnectorPrefs{Advertise: c.AppConnector},
			// The name that peers should see, even when the TUN's owner has another.
			Hostname: c.Name,
		},
		AdvertiseRoutesSet: true, RouteAllSet: true, NoSNATSet: true, AppConnectorSet: true, HostnameSet: true,
	})
	return err
}

// useExitNode waits until the named peer offers itself as an exit node.
func useExitNode(ctx context.Context, lc *local.Client, name string) error {
	w, err := lc.WatchIPNBus(ctx, ipn.NotifyInitialState|ipn.NotifyInitialNetMap|ipn.NotifyPeerChanges)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		if _, err := w.Next(); err != nil {
			return err
		}
		st, err := lc.Status(ctx)
		if err != nil {
			return err
		}
		if p := exitPeer(st, name); p != nil {
			_, err := lc.EditPrefs(ctx, &ipn.MaskedPrefs{Prefs: ipn.Prefs{ExitNodeID: p.ID}, ExitNodeIDSet: true})
			return err
		}
	}
}

func exitPeer(st *ipnstate.Status, name string) *ipnstate.PeerStatus {
	for _, p := range st.Peer {
		if p.ExitNodeOption && p.DNSName == name+"."+st.CurrentTailnet.MagicDNSSuffix+"." {
			return p
		}
	}
	return nil
}
