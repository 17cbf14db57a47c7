//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Tag is that of every gateway's device.
const Tag = "tag:egress"

// Role is what a node of the tailnet is there for.
type Role string

// Roles, each named as its host.
const (
	Plain        Role = "peer"
	SubnetRouter Role = "router"
	ExitA        Role = "exit-fra1"
	ExitB        Role = "exit-ams1"
	ViaRouter    Role = "via"
	AppConnector Role = "connector"
)

// AllRoles is every role.
func AllRoles() []Role {
	return []Role{Plain, SubnetRouter, ExitA, ExitB, ViaRouter, AppConnector}
}

// Networks behind nodes.
var (
	SubnetV4 = netip.MustParsePrefix("10.20.0.0/24")
	SubnetV6 = netip.MustParsePrefix("fd20:20::/64")
	// Via is the 4via6 route; ViaV6 is what stands for its backend.
	Via = peer.Via{Site: 7, V4: netip.MustParsePrefix("10.30.0.0/24")}
	// AppV4 is the app connector's preset route; what is in LearnedV4 and LearnedV6 it routes once it has resolved [AppName].
	AppV4     = netip.MustParsePrefix("203.0.113.0/24")
	LearnedV4 = netip.MustParsePrefix("198.18.0.0/24")
	LearnedV6 = netip.MustParsePrefix("2001:db8:18::/64")
)

// Options say what a rig has.
type Options struct {
	// Prefix begins the names of the network namespaces, PREFIX-PID-HOST. "": "tgrig".
	Prefix string
	// Roles are the nodes wanted; nil: all.
	Roles []Role
	// Binary is the gateway's; "": built by the Taskfile, as it ships.
	Binary string
	// Domain is the MagicDNS domain. "": the tailnet's default.
	Domain string
	// ControlV6 puts the control plane on the IPv6 underlay, for nodes that have no IPv4.
	ControlV6 bool
	// Verbose lets peers and gateways log what the engine says.
	Verbose bool
	// Logf receives what the control plane has to say; nil discards it.
	Logf func(format string, args ...any)
}

// Node is a node of the tailnet.
type Node struct {
	// Host's V4 and V6 are the underlay's.
	*world.Host
	// Tail4 and Tail6 are its tailnet addresses, ID its StableNodeID.
	Tail4, Tail6 netip.Addr
	ID           string

	proc *peer.Peer
}

// Tail returns the node's tailnet address of that family, 4 or 6.
func (n *Node) Tail(family int) netip.Addr { return pick(family, n.Tail4, n.Tail6) }

// Log returns the last of what the node's process wrote.
func (n *Node) Log() string { return n.proc.Log() }

func pick(family int, v4, v6 netip.Addr) netip.Addr {
	if family == 4 {
		return v4
	}
	return v6
}

// Rig is a network with a tailnet. Make it with [New].
type Rig struct {
	// World holds the hosts; Core runs the control plane.
	World   *world.World
	Tailnet *tailnet.Tailnet
	// Nodes are the tailnet's, by role.
	Nodes map[Role]*Node
	// Internet is behind the core; Backend, ViaBackend, SaaS and App are behind their
	// nodes, nil without them. Cluster is a service of the cluster, and its resolver.
	Internet, Backend, ViaBackend, SaaS, App, Cluster *world.Host

	o   Options
	dir string

	mu       sync.Mutex
	members  []*Member
	gateways []*Gateway
	mount    string // "": none
	closers  []func() error
}

// New makes the network, the tailnet and the nodes, and waits until the nodes are up. Gateways
// and members are added after that.
func New(ctx context.Context, o Options) (_ *Rig, err error) {
	if o.Prefix == "" {
		o.Prefix = "tgrig"
	}
	if o.Roles == nil {
		o.Roles = AllRoles()
	}
	r := &Rig{Nodes: make(map[Role]*Node), o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := sweep(o.Prefix); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", fmt.Sprintf("%s-%d-", o.Prefix, os.Getpid())); err != nil {
		return nil, fmt.Errorf("make folder for the rig: %w", err)
	}
	// What runs here outlives ctx, which bounds the making only.
	if r.World, err = world.New(context.WithoutCancel(ctx), o.Prefix); err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	core, control := r.World.Core, 4
	if o.ControlV6 {
		control = 6
	}
	r.Tailnet, err = tailnet.Start(context.WithoutCancel(ctx), tailnet.Options{
		Addr: pick(control, core.V4, core.V6), Domain: o.Domain,
		Listen: core.Listen, ListenPacket: core.ListenPacket, AutoApprove: true, Logf: o.Logf,
	})
	if err != nil {
		return nil, fmt.Errorf("start tailnet: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, start := range []func(context.Context, *errgroup.Group) error{r.addServices, r.addNodes} {
		if err := start(gctx, g); err != nil {
			return nil, errors.Join(err, g.Wait())
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, r.settle(ctx)
}

// sweep removes the folders of rigs whose process was killed; package world does so for their namespaces.
func sweep(prefix string) error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"-*"))
	if err != nil {
		return fmt.Errorf("look for old folders of rigs: %w", err)
	}
	for _, dir := range dirs {
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix+"-"), "-")
		pid, err := strconv.Atoi(digits)
		if err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		// One of its folders may be a mount; that none is there is as good.
		_ = unix.Unmount(filepath.Join(dir, readOnlyDir), unix.MNT_DETACH)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("sweep old folder of a rig: %w", err)
		}
	}
	return nil
}

// addServices makes the hosts that are no nodes.
func (r *Rig) addServices(ctx context.Context, g *errgroup.Group) (err error) {
	if r.Internet, err = r.World.AddInternet(); err != nil {
		return fmt.Errorf("make the internet: %w", err)
	}
	if r.Cluster, err = r.World.AddHost("cluster"); err != nil {
		return fmt.Errorf("make the cluster: %w", err)
	}
	for _, h := range []*world.Host{r.Internet, r.Cluster} {
		g.Go(func() error { return r.serve(ctx, h) })
	}
	return r.serveDNS(r.Cluster, clusterZone, r.Cluster.V4, r.Cluster.V6)
}

// serve runs the echo services on a host.
func (r *Rig) serve(ctx context.Context, h *world.Host) error {
	_, err := peer.Start(ctx, h, peer.Config{Name: h.Name})
	return err
}

// addNodes makes the nodes and what is behind them. Their processes start side by side.
func (r *Rig) addNodes(ctx context.Context, g *errgroup.Group) error {
	key := r.Tailnet.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{"tag:node"}})
	var mu sync.Mutex
	for _, role := range r.o.Roles {
		h, err := r.World.AddHost(string(role))
		if err != nil {
			return fmt.Errorf("make node %s: %w", role, err)
		}
		c := peer.Config{Name: h.Name, ControlURL: r.Tailnet.ControlURL(), AuthKey: key.Secret, Verbose: r.o.Verbose}
		behind, err := r.addRole(role, h, &c)
		if err != nil {
			return fmt.Errorf("make node %s: %w", role, err)
		}
		for _, b := range behind {
			g.Go(func() error { return r.serve(ctx, b) })
		}
		g.Go(func() error {
			p, err := peer.Start(ctx, h, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r.Nodes[role] = &Node{Host: h, Tail4: p.V4, Tail6: p.V6, ID: p.StableID, proc: p}
			return nil
		})
	}
	return nil
}

// addRole fills in what the role asks of the node, and makes the hosts behind it.
func (r *Rig) addRole(role Role, h *world.Host, c *peer.Config) (behind []*world.Host, err error) {
	switch role {
	case SubnetRouter:
		c.Routes = []netip.Prefix{SubnetV4, SubnetV6}
		r.Backend, err = r.World.AddBehind(h, "backend", at(SubnetV4, 10), at(SubnetV6, 0x10))
		return []*world.Host{r.Backend}, err
	case ViaRouter:
		c.Via = []peer.Via{Via}
		r.ViaBackend, err = r.World.AddBehind(h, "via-backend", at(Via.V4, 10))
		return []*world.Host{r.ViaBackend}, err
	case AppConnector:
		c.AppConnector = true
		if r.SaaS, err = r.World.AddBehind(h, "saas", at(AppV4, 10)); err != nil {
			return nil, err
		}
		if r.App, err = r.World.AddBehind(h, "app", at(LearnedV4, 10), at(LearnedV6, 0x10)); err != nil {
			return nil, err
		}
		c.Resolver = r.App.V4
		return []*world.Host{r.SaaS, r.App}, r.serveDNS(r.App, zone{AppName: {r.App.V4, r.App.V6}}, r.App.V4)
	case ExitA, ExitB:
		c.ExitNode = true
	}
	return nil, nil
}

// at returns the nth address of p with p's length.
func at(p netip.Prefix, n byte) netip.Prefix {
	b := p.Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// settle tells the control plane what it can only be told of nodes that are there.
func (r *Rig) settle(ctx context.Context) error {
	for role := range r.Nodes {
		if _, err := r.Tailnet.WaitNode(ctx, string(role)); err != nil {
			return err
		}
	}
	if c := r.Nodes[AppConnector]; c != nil {
		// tailscale.com/types/appctype.AppConnectorAttr.
		conf := fmt.Sprintf(`{"name":"saas","connectors":["tag:node"],"domains":[%q],"routes":[%q]}`, AppName, AppV4)
		if err := r.Tailnet.SetNodeAttr(c.Name, "tailscale.com/app-connectors", tailcfg.RawMessage(conf)); err != nil {
			return err
		}
		// The connector advertises its preset routes once it has heard of them.
		err := r.Tailnet.Wait(ctx, func(t *tailnet.Tailnet) bool {
			n, ok := t.Node(c.Name)
			return ok && slices.Contains(n.Approved, AppV4)
		})
		if err != nil {
			return fmt.Errorf("wait for the app connector's route: %w", err)
		}
	}
	for _, role := range []Role{ExitA, ExitB} {
		if n := r.Nodes[role]; n != nil {
			if err := r.Tailnet.SetNodeAttr(n.Name, tailcfg.NodeAttrSuggestExitNode); err != nil {
				return err
			}
		}
	}
	if p := r.Nodes[Plain]; p != nil {
		return r.splitDNS(p)
	}
	return nil
}

// splitDNS makes a node the nameserver of a domain of its own.
func (r *Rig) splitDNS(n *Node) error {
	if err := r.serveDNS(n.Host, corpZone, n.Tail4, n.Tail6); err != nil {
		return err
	}
	return r.Tailnet.SetDNS(tailnet.DNS{SplitRoutes: map[string][]netip.AddrPort{
		corpDomain: {netip.AddrPortFrom(n.Tail4, 53)},
	}})
}

// AddHost makes a host on the underlay that is nothing yet, such as a neighbour.
func (r *Rig) AddHost(name string) (*world.Host, error) { return r.World.AddHost(name) }

// ClusterCIDRs are what members keep on their own interface.
func (r *Rig) ClusterCIDRs() []netip.Prefix {
	return []netip.Prefix{world.UnderlayV4, world.UnderlayV6}
}

// Close ends everything and removes the namespaces.
func (r *Rig) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, g := range r.gateways {
		errs = append(errs, g.close())
	}
	for _, f := range r.closers {
		errs = append(errs, f())
	}
	if r.Tailnet != nil {
		r.Tailnet.Close()
	}
	if r.World != nil {
		errs = append(errs, r.World.Close())
	}
	if r.mount != "" {
		errs = append(errs, os.NewSyscallError("unmount "+r.mount, unix.Unmount(r.mount, unix.MNT_DETACH)))
	}
	r.gateways, r.members, r.closers, r.mount = nil, nil, nil, ""
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

func (r *Rig) onClose(f func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, f)
}
