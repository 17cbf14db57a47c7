//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/types/opt"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// startLoad runs pings of both families and a TCP stream from the member to the peer.
func (d *demo) startLoad(ctx context.Context) (*rig.Load, error) {
	return rig.StartLoad(ctx, d.member.Host, d.rig.Nodes[rig.Plain])
}

// edit is a change of the configuration and what must come of it.
type edit struct {
	what string
	edit func(*ipn.ConfigVAlpha)
	// exit is the node that the internet must see; nil: none may carry traffic.
	exit *rig.Node
	// auto: whichever exit node the gateway says it uses.
	auto bool
	// routes: the subnet behind the router is reached.
	routes bool
}

func (d *demo) edits() []edit {
	n := d.rig.Nodes
	a, b := n[rig.ExitA], n[rig.ExitB]
	return []edit{
		{what: "acceptRoutes off", edit: func(c *ipn.ConfigVAlpha) { c.AcceptRoutes = opt.NewBool(false) }},
		{what: "acceptRoutes on", routes: true},
		{what: "exit-fra1 by name", edit: useExit(string(rig.ExitA)), exit: a, routes: true},
		{what: "exit-ams1 by StableNodeID", edit: useExit(b.ID), exit: b, routes: true},
		{what: "exit-fra1 by v4 address", edit: useExit(a.Tail4.String()), exit: a, routes: true},
		{what: "exit-ams1 by v6 address", edit: useExit(b.Tail6.String()), exit: b, routes: true},
		{what: "exit-fra1 by its full name", edit: useExit(string(rig.ExitA) + "." + d.rig.Tailnet.Domain()), exit: a, routes: true},
		{what: "auto:any", edit: useExit("auto:any"), auto: true, routes: true},
		{what: "exit-ams1 by name", edit: useExit(string(rig.ExitB)), exit: b, routes: true},
		{what: "exit node removed", routes: true},
	}
}

func (d *demo) live(ctx context.Context) error {
	before, err := d.gw.Snapshot(ctx)
	if err != nil {
		return err
	}
	l, err := d.startLoad(ctx)
	if err != nil {
		l.Stop()
		return err
	}
	for _, e := range d.edits() {
		d.change(ctx, e)
	}
	pings, stream := l.Stop()
	families(func(f int) {
		d.check(ctx, line{"member", "peer", "ICMP", f, "100 pings a second over all changes"}, quick, func(context.Context) (string, error) {
			if p := pings[f]; p.Lost > 0 {
				return "", fmt.Errorf("%d lost: %v", p.Lost, p)
			}
			return pings[f].String(), nil
		})
	})
	d.check(ctx, line{"member", "peer", "TCP", 4, "a stream over all changes"}, quick, func(context.Context) (string, error) {
		if stream.Lost() > 0 {
			return "", fmt.Errorf("segments were lost: %v", stream)
		}
		return stream.String(), stream.Err
	})
	d.check(ctx, line{"demo", "gateway", "-", 0, "node key unchanged"}, quick, func(ctx context.Context) (string, error) {
		after, err := d.gw.Snapshot(ctx)
		if err == nil && after.NodeKey != before.NodeKey {
			err = fmt.Errorf("node key was %s and is %s", before.NodeKey, after.NodeKey)
		}
		return before.NodeKey[:len("nodekey:")+8] + "…", err
	})
	return nil
}

// change makes one edit and waits for its effects.
func (d *demo) change(ctx context.Context, e edit) {
	var s snapshot.Snapshot
	start := time.Now()
	if !d.check(ctx, line{"demo", "gateway", "file", 0, e.what}, quick, func(ctx context.Context) (note string, err error) {
		var took time.Duration
		s, took, err = d.gw.Apply(ctx, func() (string, error) { return d.gw.WriteConfig(e.edit) })
		return fmt.Sprintf("applied %v after the file changed", short(took)), err
	}) {
		return
	}
	show := func(l line, want bool, f func(context.Context) error) {
		d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
			how, err := reached(ctx, want, f)
			return fmt.Sprintf("%s, %v after the change", how, short(time.Since(start))), err
		})
	}
	show(line{from: "member", to: "backend", proto: "TCP", family: 4}, e.routes, func(ctx context.Context) error {
		return rig.Echo(ctx, d.member.Host, "tcp", d.rig.Backend.V4)
	})
	families(func(f int) {
		l := line{from: "exit-member", to: "internet", proto: "HTTP", family: f}
		show(l, e.exit != nil || e.auto, func(ctx context.Context) error { return d.exitIs(ctx, e, s.ExitNode.Name, f) })
	})
}

// reached tries until something is reached, or, when it must not be, until it is not.
func reached(ctx context.Context, want bool, f func(context.Context) error) (how string, err error) {
	how = "reached"
	err = try(ctx, func(ctx context.Context) error {
		err := f(ctx)
		switch {
		case want:
			return err
		case err == nil:
			return errors.New("it was reached, which it must not be")
		case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH):
			how = "not reached: no route"
		default:
			// The kernel's error may be lost: it limits them, and drops one that finds the
			// socket locked (TcpExtLockDroppedIcmps).
			how = "not reached: no answer"
		}
		return nil
	})
	return how, err
}

// exitIs checks by which node the exit member's traffic reaches the internet.
func (d *demo) exitIs(ctx context.Context, e edit, chosen string, family int) error {
	exit := e.exit
	if e.auto {
		for _, n := range d.rig.Nodes {
			if n.Name+"."+d.rig.Tailnet.Domain() == chosen {
				exit = n
			}
		}
		if exit == nil {
			s, err := d.gw.Snapshot(ctx)
			if err != nil {
				return err
			}
			return fmt.Errorf("the gateway chose %q: %+v", chosen, s.ExitNode)
		}
	}
	if exit == nil {
		_, err := rig.Get(ctx, d.exitMember.Host, underlay(d.rig.Internet, family))
		return err
	}
	return d.seenFrom(ctx, d.exitMember.Host, family, exit.Host)
}
