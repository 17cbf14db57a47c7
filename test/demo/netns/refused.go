//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Tries of what must not succeed: enough that a packet that slips through now and then is seen.
const (
	tries    = 20
	tryEvery = 10 * time.Millisecond
)

func (d *demo) refused(ctx context.Context) error {
	families(func(f int) { d.neighbourThrough(ctx, f) })
	d.tailnetToMember(ctx)
	families(func(f int) { d.memberToMember(ctx, d.member, d.exitMember, f) })
	families(func(f int) { d.memberToMember(ctx, d.exitMember, d.member, f) })
	d.memberToGateway(ctx)
	families(func(f int) { d.clusterStays(ctx, f) })
	return nil
}

// watched is a link on which a packet must, or must not, be seen.
type watched struct {
	host *world.Host
	link string
	keep func(rig.Packet) bool
	// seen: it must be, as the proof that the packets were on their way; otherwise it must not.
	seen bool
	// way says "in by" or "out by", for a link that is watched twice; "": on.
	way string
	// A datagram to to, sent by the host itself or by from, crosses the link and proves that the capture works.
	from *world.Host
	to   netip.Addr
}

// packets captures on links while act sends, and tells what was seen. It fails when a packet
// was seen that must not be, or none of those that must.
func packets(ctx context.Context, act func(context.Context) error, links ...watched) (note string, err error) {
	captures := make([]*rig.Capture, len(links))
	for i, w := range links {
		if captures[i], err = rig.StartCapture(w.host, w.link, w.keep); err != nil {
			return "", err
		}
		defer captures[i].Stop()
	}
	if err := act(ctx); err != nil {
		return "", err
	}
	var errs []error
	for i, w := range links {
		if !w.seen {
			from := w.from
			if from == nil {
				from = w.host
			}
			errs = append(errs, captures[i].SyncFrom(ctx, from, w.to))
		}
		n, first := captures[i].Count()
		where := "on " + w.link + " of " + w.host.Name
		if w.way != "" {
			where = w.way + " " + w.link + " of " + w.host.Name
		}
		switch {
		case w.seen && n == 0:
			errs = append(errs, fmt.Errorf("no packet seen %s, so this proves nothing", where))
		case !w.seen && n > 0:
			errs = append(errs, fmt.Errorf("%d packets seen %s, such as %v", n, where, first))
		}
		if note != "" {
			note += ", "
		}
		note += fmt.Sprintf("%d %s", n, where)
	}
	return note, errors.Join(errs...)
}

// wireguard reports whether a packet is the engine's own.
func wireguard(p rig.Packet) bool { return p.Proto == syscall.IPPROTO_UDP && p.Sport == 41641 }

// sprays sends pings and datagrams from h, whatever becomes of them.
func sprays(ctx context.Context, h *world.Host, to netip.Addr) error {
	if err := rig.SprayPings(ctx, h, to, tries, tryEvery); err != nil {
		return err
	}
	// That the kernel refuses a datagram is as good as any other way of not letting it out.
	_ = rig.Spray(ctx, h, netip.AddrPortFrom(to, 7), "", tries, tryEvery)
	return ctx.Err()
}

func fromTo(src, dst netip.Addr) func(rig.Packet) bool {
	return func(p rig.Packet) bool { return p.Src == src && p.Dst == dst }
}

func onlyIn(keep func(rig.Packet) bool) func(rig.Packet) bool {
	return func(p rig.Packet) bool { return !p.Out && keep(p) }
}

func onlyOut(keep func(rig.Packet) bool) func(rig.Packet) bool {
	return func(p rig.Packet) bool { return p.Out && keep(p) }
}

func toAddr(dst netip.Addr) func(rig.Packet) bool {
	return func(p rig.Packet) bool { return p.Dst == dst }
}

// neighbourThrough: a pod that is no member sends to the tailnet, the internet and a member by way of
// the gateway.
func (d *demo) neighbourThrough(ctx context.Context, f int) {
	src, gw := underlay(d.neighbour, f), underlay(d.gw.Host, f)
	plain := d.rig.Nodes[rig.Plain]
	for _, t := range []struct {
		name string
		dst  netip.Addr
		at   watched
	}{
		{"peer", plain.Tail(f), watched{host: plain.Host, link: ident.TUN, from: d.member.Host, to: plain.Tail(f)}},
		{"internet", underlay(d.rig.Internet, f), watched{host: d.gw.Host, link: ident.TUN, from: d.member.Host, to: plain.Tail(f)}},
		{"member", d.member.LinkAddr(f), watched{host: d.member.Host, link: ident.MemberLink, to: plain.Tail(f)}},
	} {
		l := line{"neighbour", t.name, "ICMP,UDP", f, "a route by the gateway"}
		t.at.keep = func(p rig.Packet) bool { return p.Src == src || p.Dst == t.dst && p.Dport == 7 && t.name != "peer" }
		d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
			if err := d.neighbour.AddRoute(netip.PrefixFrom(t.dst, t.dst.BitLen()), gw); err != nil {
				return "", err
			}
			note, err := packets(ctx, func(ctx context.Context) error { return sprays(ctx, d.neighbour, t.dst) },
				watched{host: d.gw.Host, link: "eth0", way: "in by", keep: onlyIn(toAddr(t.dst)), seen: true},
				watched{host: d.gw.Host, link: "eth0", way: "out by", keep: onlyOut(toAddr(t.dst)), to: underlay(d.rig.Cluster, f)}, t.at)
			return note, errors.Join(err, rig.DeleteRoute(d.neighbour, netip.PrefixFrom(t.dst, t.dst.BitLen()), "eth0"))
		})
	}
}

// tailnetToMember: a peer opens connections to a member, by the member's link address and by the
// gateway's tailnet addresses, at a port on which the member listens and at one on which the gateway does.
func (d *demo) tailnetToMember(ctx context.Context) {
	plain := d.rig.Nodes[rig.Plain]
	ln, err := d.member.Listen("tcp", ":80")
	if err != nil {
		d.print(line{from: "member", proto: "TCP", what: "listen on port 80"}, err)
		return
	}
	srv := &http.Server{Handler: peer.Handler("member"), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	d.check(ctx, line{"neighbour", "member", "HTTP", 4, "the member listens"}, quick, func(ctx context.Context) (string, error) {
		_, err := rig.Get(ctx, d.neighbour, d.member.V4)
		return "", err
	})
	s, err := d.gw.Snapshot(ctx)
	if err != nil {
		d.print(line{from: "demo", to: "gateway", proto: "-"}, err)
		return
	}
	for i, f := range []int{4, 6} {
		link := d.member.LinkAddr(f)
		quiet := watched{
			host: d.member.Host, link: ident.MemberLink, to: plain.Tail(f),
			keep: func(p rig.Packet) bool { return !p.Out && p.Dport == 80 },
		}
		d.check(ctx, line{"peer", "member", "HTTP", f, "by the member's link address"}, quick, func(ctx context.Context) (string, error) {
			if err := rig.AddRoute(plain.Host, netip.PrefixFrom(link, link.BitLen()), netip.Addr{}, ident.TUN); err != nil {
				return "", err
			}
			return packets(ctx, refusedDial(plain.Host, netip.AddrPortFrom(link, 80)),
				watched{host: plain.Host, link: ident.TUN, keep: toAddr(link), seen: true}, quiet)
		})
		d.check(ctx, line{"peer", "member", "HTTP", f, "by the gateway's tailnet address"}, quick, func(ctx context.Context) (string, error) {
			return packets(ctx, refusedDial(plain.Host, netip.AddrPortFrom(s.Addrs[i], 80)),
				watched{host: plain.Host, link: ident.TUN, keep: toAddr(s.Addrs[i]), seen: true}, quiet)
		})
		d.check(ctx, line{"peer", "gateway", "HTTP", f, "the gateway's own pages are not the tailnet's"}, quick, func(ctx context.Context) (string, error) {
			return "", refusedDial(plain.Host, netip.AddrPortFrom(s.Addrs[i], d.gw.Public().Port()))(ctx)
		})
	}
	d.check(ctx, line{"neighbour", "gateway", "HTTP", 4, "but the cluster's: /healthz answers"}, quick, func(ctx context.Context) (string, error) {
		_, err := rig.GetPage(ctx, d.neighbour, d.gw.Public(), "/healthz")
		return "", err
	})
}

// refusedDial is an attempt to connect over TCP that must fail.
func refusedDial(h *world.Host, to netip.AddrPort) func(context.Context) error {
	return func(ctx context.Context) error {
		dctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		c, err := h.Dial(dctx, "tcp", to.String())
		if err == nil {
			return errors.Join(fmt.Errorf("%s was let in at %v", h.Name, to), c.Close())
		}
		return ctx.Err()
	}
}

// memberToMember: one member sends to another's link address, by a route that it makes itself.
func (d *demo) memberToMember(ctx context.Context, a, b *rig.Member, f int) {
	dst := b.LinkAddr(f)
	via := ident.GatewayV4
	if f == 6 {
		via = ident.GatewayV6
	}
	host := netip.PrefixFrom(dst, dst.BitLen())
	l := line{a.Name, b.Name, "ICMP,UDP", f, "by the gateway"}
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		if err := rig.AddRoute(a.Host, host, via, ident.MemberLink); err != nil {
			return "", err
		}
		note, err := packets(ctx, func(ctx context.Context) error { return sprays(ctx, a.Host, dst) },
			watched{host: d.gw.Host, link: a.GatewayLink(), keep: toAddr(dst), seen: true},
			watched{
				host: b.Host, link: ident.MemberLink, to: d.rig.Nodes[rig.Plain].Tail(f),
				keep: fromTo(a.LinkAddr(f), dst), // another source is an answer to b's own packets
			})
		return note, errors.Join(err, rig.DeleteRoute(a.Host, host, ident.MemberLink))
	})
}

// memberToGateway: the gateway's own services are not the members'.
func (d *demo) memberToGateway(ctx context.Context) {
	d.check(ctx, line{"member", "gateway", "ICMP", 4, "its own end of the link answers a ping"}, quick, func(ctx context.Context) (string, error) {
		if err := rig.AddRoute(d.member.Host, netip.PrefixFrom(ident.GatewayV4, 32), netip.Addr{}, ident.MemberLink); err != nil {
			return "", err
		}
		return "", rig.Ping(ctx, d.member.Host, ident.GatewayV4)
	})
	d.check(ctx, line{"member", "gateway", "HTTP", 4, "and nothing else"}, quick, func(ctx context.Context) (string, error) {
		err := refusedDial(d.member.Host, netip.AddrPortFrom(ident.GatewayV4, d.gw.Public().Port()))(ctx)
		return "", errors.Join(err, rig.DeleteRoute(d.member.Host, netip.PrefixFrom(ident.GatewayV4, 32), ident.MemberLink))
	})
}

// clusterStays: the exit member reaches the cluster by its own interface, with its own address.
func (d *demo) clusterStays(ctx context.Context, f int) {
	l := line{"exit-member", "cluster", "HTTP", f, "the cluster's CIDR stays on eth0"}
	d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
		dst := underlay(d.rig.Cluster, f)
		return packets(ctx, func(ctx context.Context) error {
			a, err := rig.Get(ctx, d.exitMember.Host, dst)
			if err == nil && a.From != underlay(d.exitMember.Host, f) {
				err = fmt.Errorf("the cluster saw %v", a.From)
			}
			return err
		},
			watched{host: d.exitMember.Host, link: "eth0", keep: toAddr(dst), seen: true},
			watched{host: d.exitMember.Host, link: ident.MemberLink, keep: toAddr(dst), to: underlay(d.rig.Internet, f)})
	})
}

// tailnetBound reports whether a packet is one that only the tunnel may carry.
func (d *demo) tailnetBound(p rig.Packet) bool {
	for _, dst := range append(topology.TailnetPrefixes(), rig.SubnetV4, rig.SubnetV6, rig.AppV4, rig.LearnedV4, rig.LearnedV6, world.InternetV4.Masked(), world.InternetV6.Masked()) {
		if dst.Contains(p.Dst) {
			return true
		}
	}
	return ident.MemberV4.Contains(p.Src) || ident.MemberV6.Contains(p.Src)
}
