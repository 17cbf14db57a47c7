//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// resolver is the tailnet's (tailscale.com/net/tsaddr).
var resolver = netip.MustParseAddr("100.100.100.100")

func (d *demo) reach(ctx context.Context) error {
	n, m := d.Rig.Nodes, d.member
	for _, t := range []struct {
		what string
		addr netip.Addr
	}{
		{"a peer by its CGNAT address", n[rig.Plain].Tail4},
		{"a peer by its ULA", n[rig.Plain].Tail6},
		{"a host behind a subnet router, by the group's route 10.0.0.0/8", d.Rig.Backend.V4},
		{"a host behind a 4via6 router", rig.Via.Addr(d.Rig.ViaBackend.V4)},
		{"a host behind an app connector", d.Rig.SaaS.V4},
		{"the internet", d.Rig.Internet.V4},
		{"the internet", d.Rig.Internet.V6},
	} {
		d.check(ctx, t.what, quick, func(ctx context.Context) (string, error) {
			return t.addr.String() + " by TCP, UDP and ICMP", allProtocols(ctx, m.Host, t.addr)
		})
	}
	families(func(f int) {
		d.check(ctx, "the internet sees the exit node", quick, func(ctx context.Context) (string, error) {
			return "exit-fra1, " + addr(n[rig.ExitA].Host, f).String(), d.seenFrom(ctx, m.Host, f, n[rig.ExitA].Host)
		})
	})
	name := n[rig.Plain].Name + "." + d.Rig.Tailnet.Domain()
	d.check(ctx, "a MagicDNS name, asked of 100.100.100.100", quick, func(ctx context.Context) (string, error) {
		return name, lookup(ctx, m.Host, resolver, name, n[rig.Plain].Tail4)
	})
	d.identities(ctx)
	d.grants(ctx)
	d.outside(ctx)
	return nil
}

// allProtocols checks TCP, UDP and ICMP to an echo service.
func allProtocols(ctx context.Context, h *world.Host, to netip.Addr) error {
	return errors.Join(rig.Echo(ctx, h, "tcp", to), rig.Echo(ctx, h, "udp", to), rig.Ping(ctx, h, to))
}

// seenFrom checks that the internet host takes h for the host called who.
func (d *demo) seenFrom(ctx context.Context, h *world.Host, family int, who *world.Host) error {
	a, err := rig.Get(ctx, h, addr(d.Rig.Internet, family))
	if err != nil {
		return err
	}
	if want := addr(who, family); a.From != want {
		return fmt.Errorf("the internet saw %v, not %s's %v", a.From, who.Name, want)
	}
	return nil
}

// lookup asks for a name, again like a stub resolver does: the first answer may wait for a handshake.
func lookup(ctx context.Context, h *world.Host, server netip.Addr, name string, want ...netip.Addr) error {
	var got []netip.Addr
	err := try(ctx, func(ctx context.Context) (err error) {
		got, err = rig.Lookup(ctx, h, "udp", server, name, 4)
		return err
	})
	if err == nil && len(want) > 0 && !slices.Equal(got, want) {
		err = fmt.Errorf("%s is %v, not %v", name, got, want)
	}
	return err
}

// identities: the peer takes members of two groups, on one node, for two devices.
func (d *demo) identities(ctx context.Context) {
	for _, t := range []struct {
		group string
		from  *pod
	}{{payments, d.member}, {peers, d.other}} {
		d.check(ctx, "the peer sees a member of "+t.group+" as the group's device on its node", quick, func(ctx context.Context) (string, error) {
			device, ok := d.Rig.Tailnet.Node(t.group + "-n1")
			if !ok {
				return "", fmt.Errorf("there is no device of %s on n1", t.group)
			}
			for i, f := range []int{4, 6} {
				a, err := rig.Get(ctx, t.from.Host, d.Rig.Nodes[rig.Plain].Tail(f))
				if err != nil {
					return "", err
				}
				if a.From != device.Addresses[i] {
					return "", fmt.Errorf("the peer saw %v, and %s has %v", a.From, device.Name, device.Addresses)
				}
			}
			return fmt.Sprintf("%s, %v, %s", device.Name, device.Addresses[0], device.Tags[0]), nil
		})
	}
	d.check(ctx, "a member of peers, which has no exit node, reaches the internet as itself", quick, func(ctx context.Context) (string, error) {
		return d.other.V4.String(), d.seenFrom(ctx, d.other.Host, 4, d.other.Host)
	})
}

// grants: what the tailnet's policy allows one group it need not allow another.
func (d *demo) grants(ctx context.Context) {
	peer := d.Rig.Nodes[rig.Plain].Tail4
	everything := tailnet.Grant{Src: []string{"*"}, Dst: []string{"*"}, IP: []string{"*"}}
	d.check(ctx, "a grant for tag:egress-payments alone", quick, func(ctx context.Context) (string, error) {
		one := tailnet.Grant{Src: []string{v1alpha1.DefaultTag(payments)}, Dst: []string{"*"}, IP: []string{"*"}}
		if err := d.Rig.Tailnet.SetGrants([]tailnet.Grant{one}); err != nil {
			return "", err
		}
		if err := try(ctx, func(ctx context.Context) error { return notReached(ctx, d.other.Host, peer) }); err != nil {
			return "", err
		}
		return "the peer answers payments, and not peers", rig.Echo(ctx, d.member.Host, "tcp", peer)
	})
	d.see(ctx, "a grant for everybody again", func(ctx context.Context) error {
		if err := d.Rig.Tailnet.SetGrants([]tailnet.Grant{everything}); err != nil {
			return err
		}
		return try(ctx, func(ctx context.Context) error { return rig.Echo(ctx, d.other.Host, "tcp", peer) })
	})
}

// notReached is an attempt that must fail; half a second is ten times what one takes that succeeds.
func notReached(ctx context.Context, h *world.Host, to netip.Addr) error {
	tctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if err := rig.Echo(tctx, h, "tcp", to); err == nil {
		return fmt.Errorf("%s reached %v, which it must not", h.Name, to)
	}
	return ctx.Err()
}

// outside: the pod without the label has none of it.
func (d *demo) outside(ctx context.Context) {
	d.check(ctx, "a pod without the label reaches no peer, and no host behind one", quick, func(ctx context.Context) (string, error) {
		n := d.Rig.Nodes[rig.Plain]
		for _, to := range []netip.Addr{n.Tail4, n.Tail6, d.Rig.Backend.V4} {
			if err := notReached(ctx, d.outsider.Host, to); err != nil {
				return "", err
			}
		}
		return "and the internet sees its own address", d.seenFrom(ctx, d.outsider.Host, 4, d.outsider.Host)
	})
}
