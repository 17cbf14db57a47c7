package tailnet_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

func TestDNS(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	a, _ := l.node("a", peer.Config{})
	_, pb := l.node("b", peer.Config{})
	corp := l.host("corp")
	pc, err := corp.ListenPacket("udp", corp.V4.String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go answerDNS(pc, [4]byte{192, 0, 2, 53})

	err = l.tn.SetDNS(tailnet.DNS{
		SplitRoutes:  map[string][]netip.AddrPort{"corp.example": {netip.AddrPortFrom(corp.V4, 53)}},
		ExtraRecords: []tailnet.Record{{Name: "extra.tail.test", Addr: netip.MustParseAddr("192.0.2.1")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"b.tail.test.": pb.V4.String(), "extra.tail.test.": "192.0.2.1", "www.corp.example.": "192.0.2.53",
		} {
			r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return a.Dial(ctx, network, "100.100.100.100:53")
			}}
			l.until(name+" by "+network, func(ctx context.Context) error {
				got, err := r.LookupNetIP(ctx, "ip4", name)
				if err == nil && !slices.Equal(got, []netip.Addr{netip.MustParseAddr(want)}) {
					err = fmt.Errorf("got %v, want %s", got, want)
				}
				return err
			})
		}
	}
	if err := l.tn.SetDNS(tailnet.DNS{SplitRoutes: map[string][]netip.AddrPort{"x.example": nil}}); err == nil {
		t.Error("a split domain without a resolver was taken")
	}
}

// answerDNS gives every question for an IPv4 address the same answer.
func answerDNS(pc net.PacketConn, addr [4]byte) {
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: addr},
			}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = pc.WriteTo(out, from)
		}
	}
}
