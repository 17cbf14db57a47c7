package topology

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); go test -update writes it anew:\n%s", file, diff)
	}
}

func prefixes(s ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range s {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

var (
	onTailnet = Gateway{
		TUN: "tailscale0", TxQueueLen: 1000,
		Addrs:  prefixes("100.64.0.10/32", "fd7a:115c:a1e0::a/128"),
		Routes: prefixes("100.64.0.3/32", "fd7a:115c:a1e0::3/128", "10.55.0.0/24", "100.100.100.100/32"),
		Nameservers: []netip.Addr{
			netip.MustParseAddr("100.64.0.3"), netip.MustParseAddr("10.55.0.53"), netip.MustParseAddr("9.9.9.9"),
		},
	}
	withExit = Gateway{
		TUN: "tailscale0", Addrs: onTailnet.Addrs,
		Routes: append(prefixes("0.0.0.0/0", "::/0", "192.168.7.0/24"), onTailnet.Routes...),
		Local:  prefixes("192.168.7.0/24"),
	}
	peersOnly = Member{Alias: "pod@1", Slot: 3, Prefixes: TailnetPrefixes(), Direct: prefixes("10.96.0.0/12", "fd00:10:96::/112")}
	exit      = Member{Alias: "pod@1", Slot: 3, Prefixes: append(prefixes("10.0.0.0/8"), TailnetPrefixes()...), Direct: peersOnly.Direct, Exit: true}
)

// withDNS asks two resolvers of the cluster; the others in the list need no redirection.
var withDNS = func() Member {
	m := peersOnly
	for _, a := range []string{"10.96.0.10", "fd00:10:96::a", "169.254.20.10", "127.0.0.1", "::1", "100.100.100.100", "fd7a:115c:a1e0::53"} {
		m.Resolvers = append(m.Resolvers, netip.MustParseAddr(a))
	}
	return m
}()

func TestGolden(t *testing.T) {
	for name, g := range map[string]Gateway{"gateway_offline": {TUN: "tailscale0"}, "gateway": onTailnet, "gateway_exit": withExit} {
		golden(t, name, g.State().String()+"\n"+g.Ruleset().String())
	}
	unlinked := exit
	unlinked.Slot = 0
	for name, m := range map[string]Member{"member": peersOnly, "member_exit": exit, "member_exit_unlinked": unlinked, "member_dns": withDNS} {
		golden(t, name, m.State().String()+"\n"+m.Ruleset().String())
	}
	golden(t, "member_in_gateway", peersOnly.GatewayState().String()+"\n"+Base().String())
}

func TestRulesetsAreValid(t *testing.T) {
	for _, g := range []Gateway{{TUN: "tailscale0"}, onTailnet, withExit} {
		if err := g.Ruleset().Validate(); err != nil {
			t.Error(err)
		}
	}
	onlyV6 := Member{Slot: 1, Resolvers: withDNS.Resolvers[1:2]}
	for _, m := range []Member{{}, peersOnly, exit, {Slot: 1, Exit: true}, withDNS, onlyV6} {
		if err := m.Ruleset().Validate(); err != nil {
			t.Error(err)
		}
	}
}

// What a gateway must never do, whatever it is told to route.
func TestGatewayRoutes(t *testing.T) {
	for _, g := range []Gateway{{TUN: "tailscale0"}, onTailnet, withExit} {
		s := g.State()
		for _, p := range defaults {
			i := slices.IndexFunc(s.Routes, func(r netstate.Route) bool {
				return r.Dst == p && r.Type == netstate.Unreachable && r.Metric == ident.MetricFallback
			})
			if i < 0 {
				t.Errorf("no unreachable route behind %v", p)
			}
		}
		for _, r := range s.Routes {
			if r.Table != ident.TableGateway {
				t.Errorf("route outside our table: %v", r)
			}
			if r.Type == netstate.Unicast && slices.ContainsFunc(neverTailnet, func(n netip.Prefix) bool { return n.Overlaps(r.Dst) && r.Dst.Bits() > 0 }) {
				t.Errorf("route to members or link-local goes to the tailnet: %v", r)
			}
		}
	}
}

// Without the exit node that is wanted nothing is left of its default routes but what answers that there is no way.
func TestGatewayNoExit(t *testing.T) {
	lacking, without := withExit, withExit
	lacking.NoExit = true
	without.Routes = without.Routes[2:]
	if diff := cmp.Diff(without.State().String(), lacking.State().String()); diff != "" {
		t.Errorf("without default routes, and without an exit node:\n%s", diff)
	}
}

// Every steered prefix has its fallback, linked or not, and only the link is ever a way out.
func TestMemberFailsClosed(t *testing.T) {
	for _, m := range []Member{peersOnly, exit, {Prefixes: TailnetPrefixes(), Exit: true}} {
		s := m.State()
		steered := slices.Clone(m.Prefixes)
		if m.Exit {
			steered = append(steered, defaults...)
		}
		for _, p := range steered {
			if !slices.ContainsFunc(s.Routes, func(r netstate.Route) bool { return r.Dst == p && r.Type == netstate.Unreachable }) {
				t.Errorf("slot %d: nothing behind %v", m.Slot, p)
			}
		}
		for _, r := range s.Routes {
			if r.Table != ident.TableMember || r.Type == netstate.Unicast && (r.Link != ident.MemberLink || m.Slot == 0) {
				t.Errorf("slot %d: route %v", m.Slot, r)
			}
		}
	}
}

// The two ends must agree on addresses and hardware addresses, or nothing passes.
func TestEndsAgree(t *testing.T) {
	for _, slot := range []int{1, 255, 256, ident.MaxSlot} {
		m := peersOnly
		m.Slot = slot
		near, far := m.State(), m.GatewayState()
		if near.Links[0].Peer.Name != far.Links[0].Name || near.Links[0].Peer.MAC != far.Links[0].MAC || near.Links[0].MAC != far.Links[0].Peer.MAC {
			t.Errorf("slot %d: links %v and %v", slot, near.Links[0], far.Links[0])
		}
		for _, n := range far.Neighs {
			if !slices.ContainsFunc(near.Addrs, func(a netstate.Addr) bool { return a.Prefix.Addr() == n.IP }) || n.MAC != near.Links[0].MAC {
				t.Errorf("slot %d: the gateway's neighbour %v is not the member", slot, n)
			}
		}
		for _, n := range near.Neighs {
			if !slices.ContainsFunc(Base().Addrs, func(a netstate.Addr) bool { return a.Prefix.Addr() == n.IP }) || n.MAC != far.Links[0].MAC {
				t.Errorf("slot %d: the member's neighbour %v is not the gateway", slot, n)
			}
		}
	}
}

// Queries are redirected only while there is a link to send them by, and only those to others.
func TestRedirection(t *testing.T) {
	unlinked, nobody := withDNS, peersOnly
	unlinked.Slot = 0
	nobody.Resolvers = withDNS.Resolvers[3:]
	for name, tt := range map[string]struct {
		m    Member
		want bool
	}{
		"linked": {withDNS, true}, "not linked": {unlinked, false}, "no resolvers": {peersOnly, false}, "none to redirect": {nobody, false},
	} {
		if got := Redirects(tt.m.Ruleset()); got != tt.want {
			t.Errorf("%s: redirects %v, want %v", name, got, tt.want)
		}
	}
}
