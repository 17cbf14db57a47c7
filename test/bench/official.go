//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/bench/internal/tailscaled"
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
type official struct{ *tailscaled.Process }

func newOfficial(ctx context.Context, r *rig.Rig, s settings, dir string) (*side, error) {
	h, err := r.AddHost("official")
	if err != nil {
		return nil, fmt.Errorf("make the official gateway: %w", err)
	}
	p, err := tailscaled.New(ctx, tailscaled.Options{Host: h, Binary: s.tailscaled, Dir: dir, Conf: ipn.ConfigVAlpha{
		Version: "alpha0", Locked: opt.NewBool(false), ServerURL: new(r.Tailnet.ControlURL()), Hostname: new(h.Name),
		AuthKey:      new(r.Tailnet.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{rig.Tag}}).Secret),
		AcceptRoutes: opt.NewBool(true), AcceptDNS: opt.NewBool(false),
	}})
	if err != nil {
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
	return newSide(ctx, r, "theirs", official{p}, h, t, tableTailscale)
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

// acceptRoutes asks for the file to be read, too: tailscaled does not look by itself.
func (o official) acceptRoutes(ctx context.Context, on bool) error {
	return o.Configure(ctx, func(c *ipn.ConfigVAlpha) { c.AcceptRoutes = opt.NewBool(on) })
}

func (o official) start(ctx context.Context) error { return o.Start(ctx) }
func (o official) stop() error                     { return o.Stop() }
func (o official) kill() error                     { return o.Kill() }
func (o official) running() bool                   { return o.Running() }
func (o official) pid() int                        { return o.PID() }
func (o official) binary() string                  { return o.Binary() }
func (o official) localAPI() string                { return o.LocalAPI() }
func (o official) forget() error                   { return o.Forget() }
