//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"tailscale.com/ipn"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Limits of what a check may take.
const (
	quick = 10 * time.Second
	slow  = 30 * time.Second
)

// demo is the scene: one gateway, a plain member, one that uses the exit node, and a neighbour.
type demo struct {
	*report.Report
	s   settings
	rig *rig.Rig
	gw  *rig.Gateway
	// member is steered to the tailnet, exitMember to the exit node, too.
	member, exitMember *rig.Member
	neighbour          *world.Host
	ready              time.Duration
}

// group is a set of checks under one heading. Each begins with the scene as setUp left it.
type group struct {
	name, title, says string
	run               func(*demo, context.Context) error
}

func groups() []group {
	return []group{
		{"reach", "Reach", "a member reaches all that the tailnet offers, by both families, and the cluster as before.", (*demo).reach},
		{"live", "Live configuration", "the file's changes take effect on running traffic, without a lost packet.", (*demo).live},
		{"refused", "Refused", "what nobody may do is shown by packets that do not arrive.", (*demo).refused},
		{"closed", "Fail closed", "with the TUN or the gateway gone, nothing leaves by another way.", (*demo).closed},
		{"crash", "Crash", "connections outlive the gateway's process, and the control plane's silence.", (*demo).crash},
		{"bad", "Bad input", "a mistake is told in a sentence, and the last good configuration stays in force.", (*demo).bad},
		{"sizes", "Sizes", "large transfers at the tunnel's small MTU do not hang.", (*demo).sizes},
	}
}

func groupNames() []string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

func selected(only *regexp.Regexp) []group {
	return slices.DeleteFunc(groups(), func(g group) bool { return !only.MatchString(g.name) })
}

// setUp makes the scene.
func setUp(ctx context.Context, s settings, out io.Writer) (d *demo, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // building takes long on a new machine
	defer cancel()
	d = &demo{s: s}
	if d.rig, err = rig.New(ctx, rig.Options{Prefix: "tgdemo", Binary: s.gateway, Verbose: s.verbose}); err != nil {
		return nil, err
	}
	if err := d.populate(ctx, out); err != nil {
		return nil, errors.Join(err, d.rig.Close())
	}
	return d, nil
}

func (d *demo) populate(ctx context.Context, out io.Writer) (err error) {
	o := rig.GatewayOptions{}
	if d.s.verbose {
		o.Copy = out
	}
	if d.gw, err = d.rig.AddGateway(ctx, o); err != nil {
		return err
	}
	if d.member, err = d.rig.AddMember("member"); err != nil {
		return err
	}
	if d.exitMember, err = d.rig.AddMember("exit-member"); err != nil {
		return err
	}
	if d.neighbour, err = d.rig.AddHost("neighbour"); err != nil {
		return err
	}
	if err := d.join(); err != nil {
		return err
	}
	if _, err := d.gw.WriteConfig(useExit(string(rig.ExitA))); err != nil {
		return err
	}
	start := time.Now()
	if err := d.gw.Start(ctx); err != nil {
		return err
	}
	if _, err := d.gw.WaitReady(ctx); err != nil {
		return err
	}
	d.ready = time.Since(start)
	return d.gw.DualStackNames()
}

func (d *demo) join() error {
	if err := d.member.Join(d.gw, d.rig.Spec("member", false)); err != nil {
		return err
	}
	return d.exitMember.Join(d.gw, d.rig.Spec("exit-member", true))
}

// useExit is a configuration with an exit node.
func useExit(selector string) func(*ipn.ConfigVAlpha) {
	return func(c *ipn.ConfigVAlpha) { c.ExitNode = &selector }
}

func (d *demo) runGroup(ctx context.Context, g group) {
	d.Heading(g.title, g.says)
	if err := d.reset(ctx); err != nil {
		d.print(line{from: "demo", to: "gateway", proto: "-", what: "the scene as it was"}, err)
		return
	}
	if err := g.run(d, ctx); err != nil && ctx.Err() == nil {
		d.print(line{from: "demo", proto: "-", what: "the group could not go on"}, err)
	}
}

// reset brings the scene back to how setUp left it, whatever a group did.
func (d *demo) reset(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, slow)
	defer cancel()
	d.rig.Tailnet.Thaw()
	hash, err := d.gw.WriteConfig(useExit(string(rig.ExitA)))
	if err != nil {
		return err
	}
	if !d.gw.Running() {
		// Whatever ended it has been counted; Kill only forgets the process.
		if err := errors.Join(d.gw.Kill(), d.gw.Start(ctx)); err != nil {
			return err
		}
	}
	if err := d.join(); err != nil {
		return err
	}
	if _, err := d.gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		for _, p := range []netip.Prefix{rig.SubnetV4, rig.SubnetV6, rig.AppV4} {
			if !slices.Contains(s.Routes, p) {
				return false
			}
		}
		return s.Ready && s.Config.Hash == hash && s.Config.Error == "" && s.ExitNode.ID == d.rig.Nodes[rig.ExitA].ID
	}); err != nil {
		return err
	}
	// The first packets to each peer may still wait for WireGuard's handshake.
	return errors.Join(
		rig.Ping(ctx, d.member.Host, d.rig.Nodes[rig.Plain].Tail4),
		rig.Ping(ctx, d.exitMember.Host, d.rig.Internet.V4),
	)
}

// families runs f for IPv4 and for IPv6.
func families(f func(family int)) {
	for _, family := range []int{4, 6} {
		f(family)
	}
}

func underlay(h *world.Host, family int) netip.Addr {
	if family == 4 {
		return h.V4
	}
	return h.V6
}

// try runs f again, each time within a second, until it succeeds or ctx ends.
func try(ctx context.Context, f func(context.Context) error) error {
	return rig.Retry(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return f(ctx)
	})
}

// seenFrom checks that the internet host takes h for the host called who.
func (d *demo) seenFrom(ctx context.Context, h *world.Host, family int, who *world.Host) error {
	a, err := rig.Get(ctx, h, underlay(d.rig.Internet, family))
	if err != nil {
		return err
	}
	if want := underlay(who, family); a.From != want {
		return fmt.Errorf("the internet host saw %v, not %s's %v", a.From, who.Name, want)
	}
	return nil
}
