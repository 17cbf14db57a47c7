//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Service addresses of every tailnet (tailscale.com/net/tsaddr).
var (
	serviceV4 = netip.MustParseAddr("100.100.100.100")
	serviceV6 = netip.MustParseAddr("fd7a:115c:a1e0::53")
)

func (d *demo) reach(ctx context.Context) error {
	n := d.rig.Nodes
	families(func(f int) { d.allProtocols(ctx, d.member.Host, "peer", f, n[rig.Plain].Tail(f), "a peer") })
	families(func(f int) { d.masqueraded(ctx, f) })
	families(func(f int) {
		d.allProtocols(ctx, d.member.Host, "backend", f, underlay(d.rig.Backend, f), "behind the subnet router")
	})
	d.allProtocols(ctx, d.member.Host, "via-backend", 6, rig.Via.Addr(d.rig.ViaBackend.V4), "4via6, site 7")
	d.allProtocols(ctx, d.member.Host, "saas", 4, d.rig.SaaS.V4, "behind the app connector")
	families(func(f int) { d.learned(ctx, f) })
	families(func(f int) {
		d.allProtocols(ctx, d.exitMember.Host, "internet", f, underlay(d.rig.Internet, f), "through the exit node")
	})
	families(func(f int) {
		d.check(ctx, line{"exit-member", "internet", "HTTP", f, "the internet sees exit-a's address"}, quick,
			func(ctx context.Context) (string, error) {
				return "", d.seenFrom(ctx, d.exitMember.Host, f, n[rig.ExitA].Host)
			})
	})
	families(func(f int) {
		d.check(ctx, line{"member", "internet", "HTTP", f, "no exit member: the internet sees its own address"}, quick,
			func(ctx context.Context) (string, error) { return "", d.seenFrom(ctx, d.member.Host, f, d.member.Host) })
	})
	d.names(ctx)
	d.cli(ctx)
	return nil
}

// allProtocols checks TCP, UDP and ICMP to an echo service.
func (d *demo) allProtocols(ctx context.Context, h *world.Host, name string, family int, to netip.Addr, what string) {
	for _, p := range []struct {
		proto string
		try   func(context.Context) error
	}{
		{"TCP", func(ctx context.Context) error { return rig.Echo(ctx, h, "tcp", to) }},
		{"UDP", func(ctx context.Context) error { return rig.Echo(ctx, h, "udp", to) }},
		{"ICMP", func(ctx context.Context) error { return rig.Ping(ctx, h, to) }},
	} {
		d.check(ctx, line{h.Name, name, p.proto, family, what}, quick, func(ctx context.Context) (string, error) {
			return "", p.try(ctx)
		})
	}
}

func (d *demo) masqueraded(ctx context.Context, family int) {
	d.check(ctx, line{"member", "peer", "HTTP", family, "the peer sees the gateway's tailnet address"}, quick,
		func(ctx context.Context) (string, error) {
			a, err := rig.Get(ctx, d.member.Host, d.rig.Nodes[rig.Plain].Tail(family))
			if err != nil {
				return "", err
			}
			s, err := d.gw.Snapshot(ctx)
			if err == nil && !slices.Contains(s.Addrs, a.From) {
				err = fmt.Errorf("the peer saw %v, and the gateway's addresses are %v", a.From, s.Addrs)
			}
			return "", err
		})
}

// learned checks what an app connector routes once a member has asked for it by name.
func (d *demo) learned(ctx context.Context, family int) {
	to := underlay(d.rig.App, family)
	d.lookup(ctx, d.member.Host, "udp", serviceV4, rig.AppName, family, to, "a name of the app connector's")
	answered := time.Now()
	d.check(ctx, line{"member", "app", "TCP", family, "learned by the app connector"}, quick, func(ctx context.Context) (string, error) {
		err := try(ctx, func(ctx context.Context) error { return rig.Echo(ctx, d.member.Host, "tcp", to) })
		return fmt.Sprintf("reached %v after the answer", short(time.Since(answered))), err
	})
}

// names checks every kind of name over UDP and TCP at both service addresses.
func (d *demo) names(ctx context.Context) {
	peer := d.rig.Nodes[rig.Plain]
	for _, server := range []netip.Addr{serviceV4, serviceV6} {
		for _, network := range []string{"udp", "tcp"} {
			families(func(f int) {
				d.lookup(ctx, d.member.Host, network, server, peer.Name+"."+d.rig.Tailnet.Domain(), f, peer.Tail(f), "MagicDNS")
			})
		}
	}
	d.otherNames(ctx, "exit node in use", d.member.Host, d.exitMember.Host)
	if d.check(ctx, line{"demo", "gateway", "file", 0, "no exit node from here on"}, quick, func(ctx context.Context) (string, error) {
		_, took, err := d.gw.Apply(ctx, func() (string, error) { return d.gw.WriteConfig(nil) })
		return "applied in " + short(took), err
	}) {
		d.otherNames(ctx, "no exit node", d.member.Host)
	}
}

// otherNames checks what the tailnet sends to a nameserver of its own, and what it says nothing of.
func (d *demo) otherNames(ctx context.Context, when string, from ...*world.Host) {
	what := map[string]string{
		rig.CorpName:    "split DNS to a nameserver on the tailnet",
		rig.ClusterName: "a cluster name",
		rig.OutsideName: "an outside name",
	}
	for _, h := range from {
		for _, name := range []string{rig.CorpName, rig.ClusterName, rig.OutsideName} {
			for _, network := range []string{"udp", "tcp"} {
				d.lookup(ctx, h, network, serviceV4, name, 4, rig.Known(name, 4), what[name]+", "+when)
			}
			d.lookup(ctx, h, "udp", serviceV6, name, 6, rig.Known(name, 6), what[name]+", "+when)
		}
	}
}

func (d *demo) lookup(ctx context.Context, h *world.Host, network string, server netip.Addr, name string, family int, want netip.Addr, what string) {
	record := map[int]string{4: "A", 6: "AAAA"}[family]
	at := 4
	if server.Is6() {
		at = 6
	}
	d.check(ctx, line{h.Name, "resolver", "DNS/" + network, at, what + ", " + record}, quick,
		func(ctx context.Context) (string, error) {
			// A resolver's first answer may wait for a handshake: ask again as a stub resolver does.
			var got []netip.Addr
			err := try(ctx, func(ctx context.Context) (err error) {
				got, err = rig.Lookup(ctx, h, network, server, name, family)
				return err
			})
			if err == nil && !slices.Equal(got, []netip.Addr{want}) {
				err = fmt.Errorf("%s is %v, not %v", name, got, want)
			}
			return "", err
		})
}

// cli asks the official command-line client, if somebody built one (test/tools/tailscale).
func (d *demo) cli(ctx context.Context) {
	path, err := filepath.Glob(".cache/bin/tailscale")
	if err != nil || len(path) == 0 {
		return
	}
	d.check(ctx, line{"tailscale CLI", "gateway", "LocalAPI", 0, "the official client's status lists the peer"}, quick,
		func(ctx context.Context) (string, error) {
			out, err := exec.CommandContext(ctx, path[0], "--socket="+d.gw.Socket("tailscaled.sock"), "status").CombinedOutput()
			if err == nil && !strings.Contains(string(out), d.rig.Nodes[rig.Plain].Tail4.String()) {
				err = fmt.Errorf("no line for the peer")
			}
			if err != nil {
				err = fmt.Errorf("%w:\n%s", err, out)
			}
			return "", err
		})
}
