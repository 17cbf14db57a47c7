//go:build linux

package rig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Names that resolve, beside the tailnet's own.
const (
	// ClusterName is the cluster's, OutsideName the world's; the cluster's resolver knows both.
	ClusterName = "kubernetes.default.svc.cluster.local"
	OutsideName = "example.com"
	// CorpName is known to the nameserver on the tailnet only.
	CorpName = "intranet." + corpDomain
	// AppName is the app connector's, and has the addresses of [Rig.App].
	AppName = "saas.example"

	corpDomain = "corp.test"
)

// zone is what a nameserver knows: by name, one address a family.
type zone map[string][2]netip.Addr

var (
	clusterZone = zone{
		ClusterName: {netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd96::1")},
		OutsideName: {netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8:80::80")},
	}
	corpZone = zone{CorpName: {netip.MustParseAddr("10.20.0.10"), netip.MustParseAddr("fd20:20::10")}}
)

// ServeOutside makes a host the nameserver for [OutsideName], on these addresses of its: what a cluster's resolver
// asks about names that are not the cluster's. It ends by end.
func ServeOutside(h *world.Host, addrs ...netip.Addr) (end func() error, err error) {
	return serveDNS(h, zone{OutsideName: clusterZone[OutsideName]}, addrs...)
}

// Known returns the address that the rig's nameservers give for name, for a family of 4 or 6.
func Known(name string, family int) netip.Addr {
	for _, z := range []zone{clusterZone, corpZone} {
		if as, ok := z[name]; ok {
			return pick(family, as[0], as[1])
		}
	}
	return netip.Addr{}
}

// serveDNS is a nameserver on addresses of a host until the rig ends.
func (r *Rig) serveDNS(h *world.Host, z zone, addrs ...netip.Addr) error {
	end, err := serveDNS(h, z, addrs...)
	if err == nil {
		r.onClose(end)
	}
	return err
}

// serveDNS is a nameserver on addresses of a host, over UDP and TCP (RFC 1035), until end.
func serveDNS(h *world.Host, z zone, addrs ...netip.Addr) (end func() error, err error) {
	var open []io.Closer
	end = func() (err error) {
		for _, c := range open {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	for _, a := range addrs {
		addr := netip.AddrPortFrom(a, 53).String()
		pc, err := h.ListenPacket("udp", addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serve DNS in %s: %w", h.Name, err), end())
		}
		open = append(open, pc)
		ln, err := h.Listen("tcp", addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serve DNS in %s: %w", h.Name, err), end())
		}
		open = append(open, ln)
		go serveUDP(pc, z)
		go serveTCP(ln, z)
	}
	return end, nil
}

func serveUDP(pc net.PacketConn, z zone) {
	for buf := make([]byte, 4096); ; {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		if answer, err := z.answer(buf[:n]); err == nil {
			_, _ = pc.WriteTo(answer, from) // as with any datagram, the client asks again
		}
	}
}

func serveTCP(ln net.Listener, z zone) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer c.Close()
			for {
				query, err := readFramed(c)
				if err != nil {
					return
				}
				answer, err := z.answer(query)
				if err != nil || writeFramed(c, answer) != nil {
					return
				}
			}
		}()
	}
}

// readFramed and writeFramed put the length in front, as DNS over TCP does (RFC 1035, section 4.2.2).
func readFramed(c io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func writeFramed(c io.Writer, b []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func (z zone) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	as, known := z[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}
	switch {
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: as[0].As4()}}}
	case q.Type == dnsmessage.TypeAAAA:
		reply.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: as[1].As16()}}}
	}
	return reply.Pack()
}

// Lookup asks the nameserver at server for name's addresses of a family (4 or 6), from
// host h, over "udp" or "tcp".
func Lookup(ctx context.Context, h *world.Host, network string, server netip.Addr, name string, family int) ([]netip.Addr, error) {
	qname, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(time.Now().UnixNano()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: qname, Type: qtype(family), Class: dnsmessage.ClassINET}},
	}
	query, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", name, err)
	}
	c, err := dial(ctx, h, network, netip.AddrPortFrom(server, 53))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	raw, err := ask(c, network, query)
	if err != nil {
		return nil, fmt.Errorf("ask %v over %s for %s: %w", server, network, name, err)
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(raw); err != nil {
		return nil, fmt.Errorf("ask %v over %s for %s: %w", server, network, name, err)
	}
	if reply.ID != m.ID || reply.RCode != dnsmessage.RCodeSuccess {
		return nil, fmt.Errorf("ask %v over %s for %s: answer %v", server, network, name, reply.RCode)
	}
	return addresses(reply), nil
}

func qtype(family int) dnsmessage.Type {
	if family == 4 {
		return dnsmessage.TypeA
	}
	return dnsmessage.TypeAAAA
}

func ask(c net.Conn, network string, query []byte) ([]byte, error) {
	if network == "tcp" {
		if err := writeFramed(c, query); err != nil {
			return nil, err
		}
		return readFramed(c)
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	return buf[:n], err
}

func addresses(m dnsmessage.Message) []netip.Addr {
	var as []netip.Addr
	for _, rr := range m.Answers {
		switch b := rr.Body.(type) {
		case *dnsmessage.AResource:
			as = append(as, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			as = append(as, netip.AddrFrom16(b.AAAA))
		}
	}
	return as
}
