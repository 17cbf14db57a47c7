//go:build linux

package stitch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

func (n node) awaitReady(t *testing.T, ready bool) {
	t.Helper()
	n.await(t, "ready", func(r Report) bool { s, _ := r.member("a"); return s.Ready == ready })
}

// A member's queries go to the gateway while it answers, and to the cluster otherwise: over UDP and TCP, in
// both families, and from a socket that has asked before, too.
func TestMagicDNS(t *testing.T) {
	n := newNode(t)
	m := pod("a", n.podWhere)
	m.Resolvers = append(addrs(resolverV4, resolverV6), netip.MustParseAddr("127.0.0.1"))
	n.SetMember(m)
	n.SetGroup(Group{Name: "payments", MagicDNS: true})
	n.SetGateway("payments", Gateway{NetNS: n.gwWhere})
	n.awaitState(t, Joined)

	slot4, slot6 := ident.MemberAddrs(1)
	gateway := map[string]string{resolverV4: "gateway " + slot4.String(), resolverV6: "gateway " + slot6.String()}
	cluster := map[string]string{resolverV4: "cluster " + podV4, resolverV6: "cluster " + podV6}
	// old are sockets that ask again and again, each with the answer that it got first.
	old := map[string]net.Conn{}
	check := func(what string, want map[string]string) {
		t.Helper()
		for to, answer := range want {
			for _, network := range []string{"udp", "tcp"} {
				if got := n.mustAsk(t, network, to); got != answer {
					t.Errorf("%s, %s to %s: answer %q, want %q", what, network, to, got, answer)
				}
			}
			if old[to] == nil {
				c, err := n.dial(t, "udp", to, "")
				if err != nil {
					t.Fatal(err)
				}
				old[to] = c
			}
			if got, err := ask(old[to], 5); got != answer {
				t.Errorf("%s, an old socket to %s: answer %q, want %q; %v", what, to, got, answer, err)
			}
		}
		// What is no query for names goes where it always went.
		if got := n.mustAsk(t, "udp", worldV4); got != "cluster "+podV4 {
			t.Errorf("%s, another nameserver: %q", what, got)
		}
	}
	check("before the gateway is ready", cluster)
	old = map[string]net.Conn{} // what conntrack knows stays as it is when a redirection begins

	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
	n.wait(t, "a")
	n.inPlace(t, "a")
	check("ready", gateway)

	off := ready()
	off.Ready = false
	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: off})
	n.awaitReady(t, false)
	check("not ready", cluster)
	old = map[string]net.Conn{}

	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
	n.wait(t, "a")
	check("ready again", gateway)

	n.RemoveGateway("payments")
	n.awaitState(t, Waiting)
	check("gateway gone", cluster)
	old = map[string]net.Conn{}

	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
	s := n.wait(t, "a")
	slot4, slot6 = ident.MemberAddrs(s.Slot)
	gateway = map[string]string{resolverV4: "gateway " + slot4.String(), resolverV6: "gateway " + slot6.String()}
	check("gateway back", gateway)

	n.SetGroup(Group{Name: "payments"})
	n.wait(t, "a")
	check("MagicDNS off", cluster)
	old = map[string]net.Conn{}

	n.SetGroup(Group{Name: "payments", MagicDNS: true})
	n.wait(t, "a")
	check("MagicDNS on", gateway)
	n.RemoveMember("a")
	n.awaitForgotten(t, "a")
	nothingLeft(t, n.pod)
	check("left", cluster)
}

// A query from a socket that is bound to eth0 cannot be redirected, and must not go out there with the
// tailnet's resolver as its destination.
func TestMagicDNSBoundSocket(t *testing.T) {
	n := newNode(t)
	m := pod("a", n.podWhere)
	m.Resolvers = addrs(resolverV4)
	n.SetGroup(Group{Name: "payments", MagicDNS: true})
	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
	n.SetMember(m)
	n.wait(t, "a")
	for _, to := range []string{resolverV4, topology.ResolverV4.String()} {
		c, err := n.dial(t, "udp", to, "eth0")
		if err == nil {
			_, err = io.WriteString(c, "?")
		}
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("a query to %s from a bound socket: %v, want %v", to, err, unix.EPERM)
		}
	}
}

// An exit member's traffic stays in from before its link until after it, whatever it tries, and the cluster
// stays in reach.
func TestExitKillSwitch(t *testing.T) {
	n := newNode(t)
	out := func() (how []string) {
		for _, to := range []string{worldV4, worldV6} {
			for _, link := range []string{"", "eth0"} {
				c, err := n.dial(t, "udp", to, link)
				if err == nil {
					_, err = ask(c, 3) // the first may be lost to a link that has just come up
				}
				if err == nil {
					how = append(how, strings.TrimSpace(to+" "+link))
				}
			}
		}
		return how
	}
	if got := out(); len(got) != 4 {
		t.Fatalf("before it is a member only these ways out are open: %q", got)
	}
	n.SetGroup(Group{Name: "payments", Exit: &Exit{}})
	n.SetMember(pod("a", n.podWhere))
	n.await(t, "closed", func(r Report) bool { s, _ := r.member("a"); return s.Closed })
	closed := func(when string) {
		t.Helper()
		if got := out(); len(got) > 0 {
			t.Errorf("%s: out by %q", when, got)
		}
		if got := n.mustAsk(t, "udp", resolverV4); got != "cluster "+podV4 {
			t.Errorf("%s: the cluster answers %q", when, got)
		}
	}
	closed("waiting for its gateway")
	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
	n.wait(t, "a")
	closed("joined to a gateway that leads nowhere")
	n.RemoveGateway("payments")
	n.awaitState(t, Waiting)
	closed("gateway gone")
	n.SetMember(Member{ID: "a", NetNS: n.podWhere})
	n.wait(t, "a")
	if got := out(); len(got) != 4 {
		t.Errorf("after it has left only these ways out are open: %q", got)
	}
}

// A route into the cluster changes nothing for members, and one that covers it does not take it away; both are told.
func TestOverlap(t *testing.T) {
	n := newNode(t)
	n.SetGroup(Group{Name: "payments", Mirror: true})
	n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready("10.96.0.0/16", "10.0.0.0/8", "fd00:10:96::a/128")})
	n.SetMember(pod("a", n.podWhere))
	n.wait(t, "a")
	n.inPlace(t, "a")
	got := ""
	for _, o := range n.Snapshot().Groups[0].Overlaps {
		got += fmt.Sprintf("%v meets %v, steered %v\n", o.Route, o.CIDR, o.Steered)
	}
	want := `10.0.0.0/8 meets 10.96.0.0/12, steered true
10.96.0.0/16 meets 10.96.0.0/12, steered false
fd00:10:96::a/128 meets fd00:10:96::/112, steered false
`
	if got != want {
		t.Errorf("overlaps\n%swant\n%s", got, want)
	}
	for _, to := range []string{resolverV4, resolverV6} {
		if got := n.mustAsk(t, "udp", to); !strings.HasPrefix(got, "cluster ") {
			t.Errorf("%s is answered by %q", to, got)
		}
	}
	if got := run(t, n.pod, "ip route get 10.1.2.3"); !strings.Contains(got, "dev ts0") {
		t.Errorf("beside the cluster the route is not steered: %s", got)
	}
	// The cluster grows over what was steered.
	n.SetClusterCIDRs(prefixes("10.0.0.0/8", "fd00:10:96::/112", "fd00:10:244::/64"))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := n.Wait(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, n.pod, "ip route get 10.1.2.3"); !strings.Contains(got, "dev eth0") {
		t.Errorf("in the cluster's new CIDR: %s", got)
	}
}
