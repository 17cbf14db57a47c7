package tailnet_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

func TestPeersReachEachOther(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	a, _ := l.node("a", peer.Config{})
	_, pb := l.node("b", peer.Config{})
	pa, _ := l.tn.Node("a")
	for i, to := range []netip.Addr{pb.V4, pb.V6} {
		l.until("ping", func(ctx context.Context) error { return ping(ctx, a, to) })
		for _, network := range []string{"tcp", "udp"} {
			if err := echo(l.ctx, a, network, to); err != nil {
				t.Errorf("%s echo by %v: %v", network, to, err)
			}
		}
		got, err := get(l.ctx, a, "http", to, "/")
		if want := pa.Addresses[i].String() + " via=b"; err != nil || !matches(got, want) {
			t.Errorf("HTTP by %v: %q, %v; want %s", to, got, err, want)
		}
		got, err = get(l.ctx, a, "https", to, "/bytes?n=1048576")
		if err != nil || len(got) != 1<<20 {
			t.Errorf("1 MiB over TLS by %v: %d bytes, %v", to, len(got), err)
		}
	}
}

func TestNodesAreTold(t *testing.T) {
	l := newLab(t, tailnet.Options{Domain: "corp.test"})
	k := l.tn.CreateKey(tailnet.KeyOptions{Reusable: true, Tags: []string{"tag:z", "tag:a"}})
	_, p := l.node("web", peer.Config{AuthKey: k.Secret})
	h2 := l.host("second")
	if _, err := l.start(h2, peer.Config{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	n, err := l.tn.WaitNode(l.ctx, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web-1.corp.test", "web"}, []string{n.FQDN, n.Hostname}); diff != "" {
		t.Errorf("second node (-want +got):\n%s", diff)
	}
	type told struct {
		Name   string
		Addrs  []netip.Addr
		Tags   []string
		Online bool
	}
	tell := func() (out []told) {
		for _, n := range l.tn.NodesByTag("tag:a") {
			out = append(out, told{n.Name, n.Addresses, n.Tags, n.Online})
		}
		return out
	}
	want := []told{{"web", []netip.Addr{p.V4, p.V6}, []string{"tag:a", "tag:z"}, true}}
	if diff := cmp.Diff(want, tell(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("nodes by tag (-want +got):\n%s", diff)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	l.wait("web to be offline", func(tn *tailnet.Tailnet) bool { n, _ := tn.Node("web"); return !n.Online })
}

func TestSubnetRouter(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	route4, route6 := netip.MustParsePrefix("10.7.0.0/24"), netip.MustParsePrefix("fd07::/64")
	router, _ := l.node("router", peer.Config{Routes: []netip.Prefix{route4, route6}})
	backend, err := l.w.AddBehind(router, "backend", netip.MustParsePrefix("10.7.0.9/24"), netip.MustParsePrefix("fd07::9/64"))
	if err != nil {
		t.Fatal(err)
	}
	l.services(backend)
	a, _ := l.node("a", peer.Config{AcceptRoutes: true, Steer: []netip.Prefix{route4, route6}})
	l.denied(a, netip.AddrPortFrom(backend.V4, 80)) // not approved yet
	if err := l.tn.ApproveRoutes("router", route4, route6); err != nil {
		t.Fatal(err)
	}
	l.allowed(a, backend.V4, "10.7.0.1 via=backend")
	l.allowed(a, backend.V6, "fd07::1 via=backend")
	for _, to := range []netip.Addr{backend.V4, backend.V6} {
		if err := ping(l.ctx, a, to); err != nil {
			t.Error(err)
		}
		if err := echo(l.ctx, a, "udp", to); err != nil {
			t.Errorf("UDP echo by %v: %v", to, err)
		}
	}
	if err := l.tn.ApproveRoutes("router", route6); err != nil {
		t.Fatal(err)
	}
	l.denied(a, netip.AddrPortFrom(backend.V4, 80))
	l.allowed(a, backend.V6, "fd07::1 via=backend")
}

func TestExitNode(t *testing.T) {
	l := newLab(t, tailnet.Options{AutoApprove: true})
	internet, err := l.w.AddInternet()
	if err != nil {
		t.Fatal(err)
	}
	l.services(internet)
	exit, _ := l.node("exit", peer.Config{ExitNode: true})
	steer := []netip.Prefix{world.InternetV4.Masked(), world.InternetV6.Masked()}
	a, _ := l.node("a", peer.Config{UseExitNode: "exit", Steer: steer})
	direct := l.host("direct")
	for i, to := range []netip.Addr{internet.V4, internet.V6} {
		l.allowed(a, to, []netip.Addr{exit.V4, exit.V6}[i].String()+" via=internet")
		l.allowed(direct, to, []netip.Addr{direct.V4, direct.V6}[i].String()+" via=internet")
		if err := ping(l.ctx, a, to); err != nil {
			t.Error(err)
		}
	}
	// Without leave for the internet there is no exit node.
	if err := l.tn.SetGrants([]tailnet.Grant{{Src: []string{"a"}, Dst: []string{"exit"}, IP: []string{"*"}}}); err != nil {
		t.Fatal(err)
	}
	l.denied(a, netip.AddrPortFrom(internet.V4, 80))
	if err := l.tn.SetGrants([]tailnet.Grant{{Src: []string{"a"}, Dst: []string{"autogroup:internet"}, IP: []string{"tcp:80"}}}); err != nil {
		t.Fatal(err)
	}
	l.allowed(a, internet.V6, exit.V6.String()+" via=internet")
	l.denied(a, netip.AddrPortFrom(internet.V4, 443))
}

func TestVia(t *testing.T) {
	l := newLab(t, tailnet.Options{AutoApprove: true})
	via := peer.Via{Site: 7, V4: netip.MustParsePrefix("10.7.0.0/24")}
	router, _ := l.node("router", peer.Config{Via: []peer.Via{via}})
	backend, err := l.w.AddBehind(router, "backend", netip.MustParsePrefix("10.7.0.9/24"))
	if err != nil {
		t.Fatal(err)
	}
	l.services(backend)
	a, _ := l.node("a", peer.Config{AcceptRoutes: true})
	to := via.Addr(backend.V4)
	l.allowed(a, to, "10.7.0.1 via=backend")
	for _, network := range []string{"tcp", "udp"} {
		if err := echo(l.ctx, a, network, to); err != nil {
			t.Errorf("%s echo by %v: %v", network, to, err)
		}
	}
	if err := ping(l.ctx, a, to); err != nil {
		t.Error(err)
	}
}

func TestAppConnector(t *testing.T) {
	l := newLab(t, tailnet.Options{AutoApprove: true})
	k := l.tn.CreateKey(tailnet.KeyOptions{Tags: []string{"tag:connector"}})
	dns := l.host("dns")
	pc, err := dns.ListenPacket("udp", dns.V4.String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	learned := netip.MustParseAddr("192.0.2.53")
	go answerDNS(pc, learned.As4())
	l.node("connector", peer.Config{AppConnector: true, AuthKey: k.Secret, Resolver: dns.V4})
	a, _ := l.node("a", peer.Config{})
	conf := tailcfg.RawMessage(`{"name":"x","domains":["app.example"],"routes":["203.0.113.0/24"],"connectors":["tag:connector"]}`)
	other := tailcfg.RawMessage(`{"name":"y","domains":["other.example"],"connectors":["tag:other"]}`)
	if err := l.tn.SetNodeAttr("connector", "tailscale.com/app-connectors", conf, other); err != nil {
		t.Fatal(err)
	}
	routed := func(tn *tailnet.Tailnet, p netip.Prefix) bool {
		n, _ := tn.Node("connector")
		return slices.Contains(n.Advertised, p) && slices.Contains(n.Approved, p)
	}
	l.wait("the preset route", func(tn *tailnet.Tailnet) bool {
		n, _ := tn.Node("connector")
		return routed(tn, netip.MustParsePrefix("203.0.113.0/24")) && n.Hostinfo.AppConnector.EqualBool(true)
	})
	ask := func(ctx context.Context, name string) ([]netip.Addr, error) {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return a.Dial(ctx, network, "100.100.100.100:53")
		}}
		return r.LookupNetIP(ctx, "ip4", name)
	}
	l.until("a name of the app", func(ctx context.Context) error {
		got, err := ask(ctx, "app.example.")
		if err == nil && !slices.Equal(got, []netip.Addr{learned}) {
			err = fmt.Errorf("got %v, want %v", got, learned)
		}
		return err
	})
	l.wait("the learned route", func(tn *tailnet.Tailnet) bool { return routed(tn, netip.PrefixFrom(learned, 32)) })
	if got, err := ask(l.ctx, "other.example."); err == nil {
		t.Errorf("the connector was asked for another's app: %v", got)
	}
}
