package debug

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/gateway/node"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

const testTUN = "tailscale0"

// A link of that name and alias stands for a TUN or a member in these tests: nothing is sent. Its other end is up, as a TUN has its engine.
func addLink(t *testing.T, ns *netns.Handle, name, alias string) {
	t.Helper()
	err := ns.Do(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1280}, PeerName: "peer-" + name}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		other, err := netlink.LinkByName(link.PeerName)
		if err == nil {
			err = netlink.LinkSetUp(other)
		}
		if err != nil {
			return err
		}
		if alias == "" {
			return nil
		}
		return netlink.LinkSetAlias(link, alias)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kernelJSON returns what /debug/kernel.json says.
func kernelJSON(t *testing.T, h http.Handler) kernelView {
	t.Helper()
	var v kernelView
	if err := json.Unmarshal(pagetest.Get(t, h, "GET", "/debug/kernel.json").Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The real parts, before the node runs: a dataplane in a namespace of its own, and a node without an engine.
func TestRealGateway(t *testing.T) {
	ns := nstest.New(t)
	addLink(t, ns, testTUN, "")
	addLink(t, ns, "tg7", "tailgate:pod-a@1")
	plane, err := dataplane.New(dataplane.Options{NS: ns, TUN: testTUN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
	})
	n := node.New(node.Options{Config: t.TempDir() + "/config.json", StateDir: t.TempDir(), Dataplane: plane})
	p := newPages(n, plane)

	if _, fs := pagetest.Scrape(t, p.Public()); pagetest.Value(t, fs, "tailgate_gateway_kernel_in_place") != 0 {
		t.Error("the kernel is in place before anything was done")
	}
	if err := plane.Attach(); err != nil {
		t.Fatal(err)
	}
	if err := plane.Set(topology.Gateway{Addrs: prefixes("100.64.0.1/32", "fd7a:115c:a1e0::1/128"), Routes: prefixes("100.64.0.0/10", "fd7a:115c:a1e0::/48")}); err != nil {
		t.Fatal(err)
	}
	_, fs := pagetest.Scrape(t, p.Public())
	for name, want := range map[string]float64{"kernel_in_place": 1, "members": 1, "ready": 0} {
		if got := pagetest.Value(t, fs, prefix+name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	pagetest.Value(t, fs, "tailgate_gateway_member_transmit_bytes_total", "link", "tg7", "member", "pod-a@1")
	pagetest.Value(t, fs, "tailgate_gateway_dropped_packets_total", "reason", topology.DropNeighbour)
	if got := pagetest.Value(t, fs, "tailgate_gateway_scrape_errors_total", "part", "counters"); got != 0 {
		t.Errorf("scrape errors: %v", got)
	}
	checkDifference(t, p, ns)
	for _, page := range pagetest.Everything(t, p.Debug()) {
		if strings.Contains(page.Text, "no value") || page.Text == "" {
			t.Errorf("%s: %q", page.URL, page.Text)
		}
	}
}

// checkDifference expects the kernel as wanted, takes a route away and wants to see that, and nothing else.
func checkDifference(t *testing.T, p *Pages, ns *netns.Handle) {
	t.Helper()
	v := kernelJSON(t, p.Debug())
	if !v.InPlace || len(v.State.Difference)+len(v.Table.Difference) > 0 || len(v.State.Observed) < 10 || len(v.Table.Observed) < 10 {
		t.Errorf("after an apply: %+v", v)
	}
	_, dst, err := net.ParseCIDR("100.64.0.0/10")
	if err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		return netlink.RouteDel(&netlink.Route{Dst: dst, Table: 7718, Protocol: 77, Priority: 100, Scope: netlink.SCOPE_LINK})
	})
	if err != nil {
		t.Fatal(err)
	}
	v = kernelJSON(t, p.Debug())
	want := []string{"route add unicast 100.64.0.0/10 dev tailscale0 table 7718 metric 100"}
	if !slices.Equal(v.State.Difference, want) || len(v.Table.Difference) > 0 {
		t.Errorf("with a route taken away: %q, nftables %q", v.State.Difference, v.Table.Difference)
	}
}
