//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// large is what is fetched over TLS, in bytes.
const large = 1 << 20

func (d *demo) sizes(ctx context.Context) error {
	for _, m := range []*rig.Member{d.member, d.exitMember} {
		d.check(ctx, line{m.Name, "gateway", "-", 0, "the link's MTU"}, quick, func(context.Context) (note string, err error) {
			err = m.Do(func() error {
				ifi, err := net.InterfaceByName(ident.MemberLink)
				if err == nil && ifi.MTU != ident.MTU {
					err = fmt.Errorf("it is %d, not %d", ifi.MTU, ident.MTU)
				}
				return err
			})
			return fmt.Sprint(ident.MTU), err
		})
	}
	families(func(f int) {
		d.large(ctx, d.member.Host, "peer", f, d.rig.Nodes[rig.Plain].Tail(f), "")
		d.large(ctx, d.member.Host, "backend", f, underlay(d.rig.Backend, f), " from behind the subnet router")
		d.large(ctx, d.exitMember.Host, "internet", f, underlay(d.rig.Internet, f), " through the exit node")
	})
	d.large(ctx, d.member.Host, "via-backend", 6, rig.Via.Addr(d.rig.ViaBackend.V4), " from a 4via6 address")
	d.churn(ctx)
	return nil
}

// churn joins and takes out members by the thousand while another member's traffic runs.
func (d *demo) churn(ctx context.Context) {
	p, err := rig.StartPing(ctx, d.member.Host, d.rig.Nodes[rig.Plain].Tail4, 10*time.Millisecond)
	what := fmt.Sprintf("%d members join and leave by the agent's code", d.s.members)
	limit := slow + time.Duration(d.s.members)*50*time.Millisecond
	d.check(ctx, line{"new members", "gateway", "netlink", 0, what}, limit, func(ctx context.Context) (string, error) {
		if err != nil {
			return "", err
		}
		took, err := d.gw.Churn(ctx, d.s.members, d.rig.Spec("", true))
		n := time.Duration(d.s.members)
		return fmt.Sprintf("nothing is left behind; %v a join, %v a leave", short(took.Join/n), short(took.Leave/n)), err
	})
	if err != nil {
		return
	}
	d.check(ctx, line{"member", "peer", "ICMP", 4, "100 pings a second meanwhile"}, quick, func(context.Context) (string, error) {
		stats := p.Stop()
		// Thousands of links made and unmade keep both of a small machine's processors in the
		// kernel; a socket's queue may overflow meanwhile. What must not happen is an outage.
		if stats.Lost*1000 > stats.Sent {
			return "", fmt.Errorf("more than one in a thousand lost: %d, %v", stats.Lost, stats)
		}
		return stats.String(), nil
	})
}

func (d *demo) large(ctx context.Context, h *world.Host, name string, family int, to netip.Addr, what string) {
	d.check(ctx, line{h.Name, name, "TLS", family, "1 MiB" + what}, quick, func(ctx context.Context) (string, error) {
		start := time.Now()
		err := rig.TLS(ctx, h, to, large)
		return fmt.Sprintf("%.0f Mbit/s", large*8/1e6/time.Since(start).Seconds()), err
	})
}
