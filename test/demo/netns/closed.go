//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

func (d *demo) closed(ctx context.Context) error {
	d.tampered(ctx)
	for _, s := range []struct {
		what string
		make func() error
	}{
		{"the gateway killed", d.gw.Kill},
		{"dead, and its TUN down", func() error { return rig.SetDown(d.gw.Host, ident.TUN) }},
		{"dead, and its TUN deleted", func() error { return rig.DeleteLink(d.gw.Host, ident.TUN) }},
	} {
		if err := s.make(); err != nil {
			return err
		}
		families(func(f int) { d.nothingLeaves(ctx, s.what, f) })
	}
	if err := rig.DeleteLink(d.gw.Host, d.exitMember.GatewayLink()); err != nil {
		return err
	}
	families(func(f int) { d.unlinked(ctx, f) })
	d.check(ctx, line{"exit-member", "internet", "HTTP", 4, "gateway started, member joined again"}, slow, func(ctx context.Context) (string, error) {
		if err := errors.Join(d.join(), d.gw.Start(ctx)); err != nil {
			return "", err
		}
		return "", try(ctx, func(ctx context.Context) error {
			return d.seenFrom(ctx, d.exitMember.Host, 4, d.rig.Nodes[rig.ExitA].Host)
		})
	})
	return nil
}

// tampered: somebody sets the TUN down under the running gateway, which heals it.
func (d *demo) tampered(ctx context.Context) {
	l := line{"members", "tailnet", "ICMP,UDP", 4, "the TUN set down under the running gateway"}
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		start := time.Now()
		note, err := packets(ctx, func(ctx context.Context) error {
			if err := rig.SetDown(d.gw.Host, ident.TUN); err != nil {
				return err
			}
			start = time.Now()
			return d.sprayAll(ctx, 4)
		}, d.leaks(4)...)
		if err != nil {
			return note, err
		}
		err = rig.Ping(ctx, d.member.Host, d.rig.Nodes[rig.Plain].Tail4)
		return fmt.Sprintf("%s; healed within %v", note, short(time.Since(start))), err
	})
}

// leaks are the links by which nothing may leave: the gateway's eth0, and the members' own.
func (d *demo) leaks(f int) []watched {
	to := underlay(d.rig.Cluster, f)
	out := func(p rig.Packet) bool { return p.Out && d.tailnetBound(p) }
	tailnetOnly := func(p rig.Packet) bool {
		return out(p) && p.Dst != underlay(d.rig.Internet, f) // a plain member's internet is its own
	}
	return []watched{
		{host: d.gw.Host, link: d.member.GatewayLink(), keep: d.tailnetBound, seen: true},
		// The engine tries all addresses that a peer says it has, those behind it among them.
		{host: d.gw.Host, link: "eth0", keep: func(p rig.Packet) bool { return out(p) && !wireguard(p) }, to: to},
		{host: d.member.Host, link: "eth0", keep: tailnetOnly, to: to},
		{host: d.exitMember.Host, link: "eth0", keep: out, to: to},
	}
}

// sprayAll sends from both members to all that only the tunnel may carry.
func (d *demo) sprayAll(ctx context.Context, f int) error {
	plain, in := d.rig.Nodes[rig.Plain].Tail(f), underlay(d.rig.Internet, f)
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range []struct {
		from *rig.Member
		to   netip.Addr
	}{
		{d.member, plain}, {d.member, underlay(d.rig.Backend, f)}, {d.exitMember, plain}, {d.exitMember, in},
	} {
		g.Go(func() error { return sprays(ctx, s.from.Host, s.to) })
		if !d.gw.Running() {
			g.Go(func() error { return refusedDial(s.from.Host, netip.AddrPortFrom(s.to, 7))(ctx) })
		}
	}
	return g.Wait()
}

func (d *demo) nothingLeaves(ctx context.Context, what string, f int) {
	l := line{"members", "tailnet", "all", f, what}
	d.check(ctx, l, slow, func(ctx context.Context) (string, error) {
		return packets(ctx, func(ctx context.Context) error { return d.sprayAll(ctx, f) }, d.leaks(f)...)
	})
}

// unlinked: the exit member's link is gone.
func (d *demo) unlinked(ctx context.Context, f int) {
	in := netip.AddrPortFrom(underlay(d.rig.Internet, f), 7)
	eth0 := watched{
		host: d.exitMember.Host, link: "eth0", to: underlay(d.rig.Cluster, f),
		keep: func(p rig.Packet) bool { return p.Out && d.tailnetBound(p) },
	}
	l := line{"exit-member", "internet", "UDP", f, "its link deleted"}
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		return packets(ctx, refusedSpray(d.exitMember.Host, in, "", syscall.EHOSTUNREACH, syscall.ENETUNREACH), eth0)
	})
	l.what = "its link deleted, socket bound to eth0"
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		return packets(ctx, refusedSpray(d.exitMember.Host, in, "eth0", syscall.EPERM), eth0)
	})
	plain := netip.AddrPortFrom(d.rig.Nodes[rig.Plain].Tail(f), 7)
	eth0.host = d.member.Host
	l = line{"member", "peer", "UDP", f, "socket bound to eth0"}
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		return packets(ctx, refusedSpray(d.member.Host, plain, "eth0", syscall.EPERM), eth0)
	})
}

// refusedSpray sends datagrams that the sender's own kernel must refuse with one of the errors.
func refusedSpray(h *world.Host, to netip.AddrPort, link string, want ...error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := rig.Spray(ctx, h, to, link, tries, tryEvery)
		for _, w := range want {
			if errors.Is(err, w) {
				return nil
			}
		}
		if err == nil {
			return errors.New("the sender's kernel refused nothing")
		}
		return fmt.Errorf("the sender's kernel refused with another error than expected: %w", err)
	}
}
