//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// lookup asks as programs do: by /etc/resolv.conf, or the server given.
func lookup(ctx context.Context, args []string, out io.Writer) error {
	var kind, server string
	var timeout time.Duration
	args, err := flags("lookup", args, 1, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&kind, "type", "", "`kind` of record: a, aaaa, ptr, txt, cname, srv; \"\": a and aaaa")
		fs.StringVar(&server, "server", "", "`address` with port of a name server; \"\": those of /etc/resolv.conf")
		fs.DurationVar(&timeout, "timeout", 5*time.Second, "for the answer")
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &net.Resolver{PreferGo: true}
	if server != "" {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
	}
	answers, err := resolve(ctx, r, kind, args[0])
	if err != nil {
		return err
	}
	for _, a := range answers {
		fmt.Fprintln(out, a)
	}
	return nil
}

func resolve(ctx context.Context, r *net.Resolver, kind, name string) ([]string, error) {
	networks := map[string]string{"": "ip", "a": "ip4", "aaaa": "ip6"}
	if n, ok := networks[kind]; ok {
		ips, err := r.LookupNetIP(ctx, n, name)
		var all []string
		for _, ip := range ips {
			all = append(all, ip.Unmap().String())
		}
		return all, err
	}
	switch kind {
	case "ptr":
		return r.LookupAddr(ctx, name)
	case "txt":
		return r.LookupTXT(ctx, name)
	case "cname":
		c, err := r.LookupCNAME(ctx, name)
		return []string{c}, err
	case "srv":
		_, srvs, err := r.LookupSRV(ctx, "", "", name)
		var all []string
		for _, s := range srvs {
			all = append(all, fmt.Sprintf("%s:%d", s.Target, s.Port))
		}
		return all, err
	}
	return nil, fmt.Errorf("there is no kind %q", kind)
}

// ping sends ICMP echoes and fails when none comes back.
func ping(ctx context.Context, args []string, out io.Writer) error {
	var count int
	var every, timeout time.Duration
	args, err := flags("ping", args, 1, 1, func(fs *flag.FlagSet) {
		fs.IntVar(&count, "n", 3, "`number` of echoes")
		fs.DurationVar(&every, "every", time.Second, "time between them")
		fs.DurationVar(&timeout, "timeout", time.Second, "for each answer")
	})
	if err != nil {
		return err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", args[0])
	if err != nil {
		return err
	}
	p, err := newPinger(ips[0].Unmap())
	if err != nil {
		return err
	}
	defer p.conn.Close()
	lost := 0
	for i := range count {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(every):
			}
		}
		d, err := p.echo(i+1, timeout)
		if err != nil {
			lost++
			fmt.Fprintf(out, "%d: %v\n", i+1, err)
			continue
		}
		fmt.Fprintf(out, "%d: from %v in %v\n", i+1, p.to, d.Round(time.Microsecond))
	}
	if lost == count {
		return fmt.Errorf("no answer from %v", p.to)
	}
	return nil
}

// pinger has a raw socket, which takes CAP_NET_RAW; containers have that unless it is dropped.
type pinger struct {
	conn        *icmp.PacketConn
	to          netip.Addr
	proto       int
	ask, answer icmp.Type
}

func newPinger(to netip.Addr) (*pinger, error) {
	p := &pinger{to: to, proto: 1, ask: ipv4.ICMPTypeEcho, answer: ipv4.ICMPTypeEchoReply}
	network, any := "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		p.proto, p.ask, p.answer = 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		network, any = "ip6:ipv6-icmp", "::"
	}
	var err error
	p.conn, err = icmp.ListenPacket(network, any)
	return p, err
}

// echo sends one and waits for its answer.
func (p *pinger) echo(seq int, timeout time.Duration) (time.Duration, error) {
	id := os.Getpid() & 0xffff
	m := icmp.Message{Type: p.ask, Body: &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, 56)}}
	b, err := m.Marshal(nil)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := p.conn.SetDeadline(start.Add(timeout)); err != nil {
		return 0, err
	}
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: p.to.AsSlice(), Zone: p.to.Zone()}); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			return 0, err
		}
		got, err := icmp.ParseMessage(p.proto, buf[:n])
		if err != nil {
			continue
		}
		if e, ok := got.Body.(*icmp.Echo); ok && got.Type == p.answer && e.ID == id && e.Seq == seq {
			return time.Since(start), nil
		}
		if got.Type == ipv4.ICMPTypeDestinationUnreachable || got.Type == ipv6.ICMPTypeDestinationUnreachable {
			return 0, errors.New("destination unreachable")
		}
	}
}
