//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

const (
	// membersEnv is how many members join one gateway, one after the other. The
	// default keeps a test run short; what is shown does not depend on it.
	membersEnv     = "TAILGATE_TEST_MEMBERS"
	defaultMembers = 2_000
	podNamespaces  = 100
)

func TestThousandsOfMembers(t *testing.T) {
	members := defaultMembers
	if env := os.Getenv(membersEnv); env != "" {
		var err error
		if members, err = strconv.Atoi(env); err != nil || members < 10 || members > ident.MaxSlot {
			t.Fatalf("%s=%s: write a number from 10 to %d", membersEnv, env, ident.MaxSlot)
		}
	}
	gateway := nstest.New(t)
	gw := open(t, gateway, nil)
	// A namespace for each pod would cost more than what is measured.
	var pods []*netns.Handle
	var pod []*kernel.Namespace
	for i := range podNamespaces {
		pods = append(pods, nstest.New(t))
		pod = append(pod, open(t, pods[i], gateway))
	}
	// On lo once, not on every link: the kernel keeps equal addresses in one list.
	reconcile(t, gw, netstate.Scope{Links: []string{"lo"}, Addrs: []netip.Prefix{ident.MemberV4, ident.MemberV6}}, netstate.State{
		Links: []netstate.Link{{Name: "lo", Kind: netstate.Existing, Up: true}},
		Addrs: []netstate.Addr{{Link: "lo", Prefix: netip.PrefixFrom(ident.GatewayV4, 32)}, {Link: "lo", Prefix: netip.PrefixFrom(ident.GatewayV6, 128)}},
	})
	nothing := snapshot(t, gw)

	lap := members / 10
	var laps []time.Duration
	start := time.Now()
	for slot := 1; slot <= members; slot++ {
		join(t, pod[slot%podNamespaces], gw, slot)
		if slot%lap == 0 {
			laps = append(laps, time.Since(start))
			start = time.Now()
		}
	}
	first, last := laps[0]/time.Duration(lap), laps[len(laps)-1]/time.Duration(lap)
	t.Logf("%d members joined: %v each at first, %v at last", members, first, last)
	// Were each join to look at all others, the last ones would take some 20 times
	// as long as the first ones. What is left of growth is the kernel's, which for every
	// link that comes up walks all IPv6 routes (rt6_sync_up), and to tell the neighbours
	// of one link walks all (neigh_dump_table).
	if last > 6*first+time.Millisecond {
		t.Errorf("a join takes %v when there are %d others, and %v at first", last, members, first)
	}

	scope := netstate.Scope{Links: []string{"tg*"}, Tables: []int{ident.TableMain}}
	start = time.Now()
	have := observe(t, gw, scope)
	t.Logf("observed all in %v", time.Since(start))
	if len(have.Links) != members || len(have.Addrs) != 0 || len(have.Neighs) != 2*members || len(have.Routes) != 2*members {
		t.Fatalf("observed %d links, %d addresses, %d neighbours, %d routes",
			len(have.Links), len(have.Addrs), len(have.Neighs), len(have.Routes))
	}
	start = time.Now()
	plan := netstate.Diff(have, netstate.State{})
	t.Logf("planned in %v", time.Since(start))
	start = time.Now()
	if err := gw.Apply(plan); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed all in %v", time.Since(start))
	if diff := cmp.Diff(nothing, snapshot(t, gw)); diff != "" {
		t.Errorf("left behind (-before +after)\n%s", diff)
	}
	for _, ns := range pods {
		if links := strings.Count(run(t, ns, "ip -o link"), "\n"); links != 1 {
			t.Fatalf("%d links left in a pods' namespace", links)
		}
	}
}

// snapshot is what may be left in the gateway, whoever made it.
func snapshot(t *testing.T, gw *kernel.Namespace) string {
	t.Helper()
	return observe(t, gw, netstate.Scope{Links: []string{"lo", "tg*"}, Tables: []int{ident.TableMain, ident.TableGateway}, RuleLast: 40000}).String()
}

// join does what an agent does: both ends, each observed by name.
func join(t *testing.T, pod, gw *kernel.Namespace, slot int) {
	t.Helper()
	v4, v6 := ident.MemberAddrs(slot)
	own, peer := fmt.Sprintf("p%d", slot), ident.GatewayLink(slot)
	bring(t, pod, netstate.Scope{Links: []string{own}}, netstate.State{
		Links: []netstate.Link{{
			Name: own, Kind: netstate.Veth, Alias: ident.AliasPrefix + own, MTU: ident.MTU, MAC: ident.MemberMAC(slot), Up: true,
			Peer: netstate.Peer{Name: peer, MAC: ident.GatewayMAC},
		}},
		Addrs: []netstate.Addr{{Link: own, Prefix: netip.PrefixFrom(v4, 32)}, {Link: own, Prefix: netip.PrefixFrom(v6, 128)}},
	})
	route := netstate.Route{Table: ident.TableMain, Metric: ident.MetricPreferred, Type: netstate.Unicast, Link: peer}
	route4, route6 := route, route
	route4.Dst, route4.Src = netip.PrefixFrom(v4, 32), ident.GatewayV4
	route6.Dst, route6.Src = netip.PrefixFrom(v6, 128), ident.GatewayV6
	bring(t, gw, netstate.Scope{Links: []string{peer}, Tables: []int{ident.TableMain}, RouteLinks: []string{peer}}, netstate.State{
		Links:  []netstate.Link{{Name: peer, Kind: netstate.Veth, Alias: ident.AliasPrefix + peer, Up: true}},
		Neighs: []netstate.Neigh{{Link: peer, IP: v4, MAC: ident.MemberMAC(slot)}, {Link: peer, IP: v6, MAC: ident.MemberMAC(slot)}},
		Routes: []netstate.Route{route4, route6},
	})
}

func bring(t *testing.T, n *kernel.Namespace, scope netstate.Scope, want netstate.State) {
	t.Helper()
	if err := n.Apply(netstate.Diff(observe(t, n, scope), want)); err != nil {
		t.Fatal(err)
	}
}
