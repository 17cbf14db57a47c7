//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tailscale.com/client/local"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// gateway is what the bench asks of either side's. It is made stopped.
type gateway interface {
	// start returns when the program has been executed.
	start(ctx context.Context) error
	// stop ends it with SIGTERM, kill with SIGKILL; both wait for the end.
	stop() error
	kill() error
	running() bool
	pid() int
	// binary is the program's path, localAPI that of Tailscale's LocalAPI socket.
	binary() string
	localAPI() string
	// acceptRoutes changes the configuration file, and tells the program if it does not look for itself.
	acceptRoutes(ctx context.Context, on bool) error
	// forget removes the identity of a gateway that is stopped, and whatever else a first start does not find.
	forget() error
}

// side is a gateway with the one member that it carries.
type side struct {
	name string
	gateway
	host   *world.Host // the gateway's
	member *world.Host
	worker *traffic.Worker // in the member
	// table is the routing table that accepted routes are put into.
	table int
	// started is when the process was last started, loaded says that it has carried a load since.
	started time.Time
	loaded  bool
}

// restart ends what runs, calls between, starts the gateway and waits for the peer's first reply to the
// member. It returns the time from the execution to the reply.
func (s *side) restart(ctx context.Context, to netip.Addr, end func() error) (time.Duration, error) {
	if err := end(); err != nil {
		return 0, err
	}
	p, err := traffic.StartProbes(ctx, s.member, to, pingEvery)
	if err != nil {
		return 0, err
	}
	defer p.Stop()
	if err := s.start(ctx); err != nil {
		return 0, err
	}
	s.started, s.loaded = time.Now(), false
	if err := p.Wait(ctx); err != nil {
		return 0, err
	}
	return time.Since(s.started), nil
}

// client speaks to either side's engine.
func (s *side) client() *local.Client {
	return &local.Client{Socket: s.localAPI(), UseSocketOnly: true}
}

// awaitDirect waits until the engine sends to the peer without the relay, which it finds a way to while
// there is traffic.
func (s *side) awaitDirect(ctx context.Context, to netip.Addr) error {
	p, err := traffic.StartProbes(ctx, s.member, to, 50*time.Millisecond)
	if err != nil {
		return err
	}
	defer p.Stop()
	for {
		if err := p.Wait(ctx); err != nil {
			return fmt.Errorf("wait for a direct path: %w", err)
		}
		st, err := s.client().Status(ctx)
		if err != nil {
			return fmt.Errorf("wait for a direct path: %w", err)
		}
		for _, peer := range st.Peer {
			if peer.CurAddr != "" && slices.Contains(peer.TailscaleIPs, to) {
				return nil
			}
		}
	}
}

// id is the node's in the tailnet.
func (s *side) id(ctx context.Context) (string, error) {
	st, err := s.client().StatusWithoutPeers(ctx)
	if err != nil {
		return "", fmt.Errorf("ask %s who it is: %w", s.name, err)
	}
	return string(st.Self.ID), nil
}

// routeChange is how long the change that do makes takes until the kernel routes dst to the tailnet, or no longer
// does. With there, a route that is there already counts as one that came.
func (s *side) routeChange(ctx context.Context, dst netip.Prefix, want, there bool, do func() error) (time.Duration, error) {
	updates, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	defer close(done)
	err := s.host.Do(func() error {
		return netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{ListExisting: there})
	})
	if err != nil {
		return 0, fmt.Errorf("follow routes of %s: %w", s.name, err)
	}
	kind := uint16(unix.RTM_DELROUTE)
	if want {
		kind = unix.RTM_NEWROUTE
	}
	start := time.Now()
	changed := make(chan error, 1)
	go func() { changed <- do() }()
	var took time.Duration
	for took == 0 || changed != nil {
		select {
		case u, ok := <-updates:
			if !ok {
				return 0, errors.New("the kernel ended the subscription to routes")
			}
			if took == 0 && u.Type == kind && u.Table == s.table && u.Dst != nil && u.Dst.String() == dst.String() {
				took = time.Since(start)
			}
		case err := <-changed:
			if err != nil {
				return 0, err
			}
			changed = nil
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the route to %v: %w", dst, ctx.Err())
		}
	}
	return took, nil
}

// ours is tailgate-gateway as the rig runs it.
type ours struct {
	*rig.Gateway
}

func newOurs(ctx context.Context, r *rig.Rig, s settings) (*side, error) {
	g, err := r.AddGateway(ctx, rig.GatewayOptions{Env: s.gatewayEnv})
	if err != nil {
		return nil, err
	}
	return newSide(ctx, r, "ours", ours{g}, g.Host, g.Target, ident.TableGateway)
}

func (o ours) start(ctx context.Context) error { return o.Start(ctx) }
func (o ours) stop() error                     { return o.Stop() }
func (o ours) kill() error                     { return o.Kill() }
func (o ours) running() bool                   { return o.Running() }
func (o ours) pid() int                        { return o.PID() }
func (o ours) binary() string                  { return o.Binary() }
func (o ours) localAPI() string                { return o.Socket("tailscaled.sock") }

func (o ours) acceptRoutes(_ context.Context, on bool) error {
	_, err := o.WriteConfig(func(c *ipn.ConfigVAlpha) { c.AcceptRoutes = opt.NewBool(on) })
	return err
}

// forget removes the TUN, too, which a gateway that ends leaves for the next.
func (o ours) forget() error {
	if err := os.RemoveAll(o.StateDir()); err != nil {
		return fmt.Errorf("forget the gateway's identity: %w", err)
	}
	if !rig.HasLink(o.Host, ident.TUN) {
		return nil
	}
	return rig.DeleteLink(o.Host, ident.TUN)
}

// newSide joins a member of its own to a gateway, in the one way for both.
func newSide(ctx context.Context, r *rig.Rig, name string, g gateway, h *world.Host, t *joiner.Target, table int) (*side, error) {
	m, err := r.World.AddHost("member-" + name)
	if err != nil {
		return nil, fmt.Errorf("make the member of %s: %w", name, err)
	}
	if _, err := joiner.Join(m.Handle(), t, r.Spec(name, false)); err != nil {
		return nil, err
	}
	w, err := traffic.StartWorker(ctx, m)
	if err != nil {
		return nil, err
	}
	return &side{name: name, gateway: g, host: h, member: m, worker: w, table: table}, nil
}
