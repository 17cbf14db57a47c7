package tailnet

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/tailcfg"
)

// bench is a tailnet of nodes that never connect.
func bench(t *testing.T) *Tailnet {
	t.Helper()
	tn, err := Start(t.Context(), Options{AutoApprove: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	for i, n := range []struct{ name, tags, routes string }{
		{"alice", "", ""},
		{"web", "tag:web", ""},
		{"router", "tag:router", "10.1.0.0/16 10.2.0.0/16"},
		{"router2", "tag:router", "10.1.0.0/16"},
		{"exit", "tag:exit", "0.0.0.0/0 ::/0"},
	} {
		hi := &tailcfg.Hostinfo{Hostname: n.name}
		for _, r := range strings.Fields(n.routes) {
			hi.RoutableIPs = append(hi.RoutableIPs, netip.MustParsePrefix(r))
		}
		tn.mu.Lock()
		o := &node{id: tailcfg.NodeID(i + 1), tags: strings.Fields(n.tags), gone: make(chan struct{})}
		tn.nodes = append(tn.nodes, o)
		tn.setHostinfoLocked(o, hi)
		tn.changedLocked()
		tn.mu.Unlock()
	}
	return tn
}

// text is a filter, a line a rule, with v4 only.
func text(rules []tailcfg.FilterRule) (out []string) {
	for _, r := range rules {
		var src, dst []string
		for _, s := range r.SrcIPs {
			if !strings.Contains(s, ":") {
				src = append(src, s)
			}
		}
		for _, d := range r.DstPorts {
			if !strings.Contains(d.IP, ":") {
				dst = append(dst, fmt.Sprintf("%s:%d-%d", d.IP, d.Ports.First, d.Ports.Last))
			}
		}
		out = append(out, fmt.Sprintf("%v %s > %s", r.IPProto, strings.Join(src, ","), strings.Join(dst, ",")))
	}
	return out
}

func TestFilters(t *testing.T) {
	tn := bench(t)
	for _, tt := range []struct {
		name  string
		grant Grant
		want  map[string][]string // node: its filter; others: nothing
	}{
		{
			"tag to tag", Grant{[]string{"tag:web"}, []string{"tag:router"}, []string{"tcp:443", "udp:*"}},
			map[string][]string{
				"router":  {"[6] 100.64.0.2/32 > 100.64.0.3/32:443-443", "[17] 100.64.0.2/32 > 100.64.0.3/32:0-65535"},
				"router2": {"[6] 100.64.0.2/32 > 100.64.0.4/32:443-443", "[17] 100.64.0.2/32 > 100.64.0.4/32:0-65535"},
			},
		},
		{
			"into a subnet, by its primary router", Grant{[]string{"autogroup:member"}, []string{"10.1.2.0/24", "10.2.0.0/15"}, []string{"80-90"}},
			map[string][]string{"router": {"[] 100.64.0.1/32 > 10.1.2.0/24:80-90,10.2.0.0/16:80-90"}},
		},
		{
			"from an address, to a name", Grant{[]string{"10.1.0.0/16"}, []string{"web"}, []string{"icmp:*"}},
			map[string][]string{"web": {"[1 58] 10.1.0.0/16 > 100.64.0.2/32:0-65535"}},
		},
		{
			"a literal address never means an exit node", Grant{[]string{"*"}, []string{"198.51.100.7"}, []string{"*"}},
			map[string][]string{},
		},
		{
			"all", Grant{[]string{"tag:web"}, []string{"*"}, []string{"132:5000"}},
			map[string][]string{
				"alice":   {"[132] 100.64.0.2/32 > 100.64.0.1/32:5000-5000"},
				"web":     {"[132] 100.64.0.2/32 > 100.64.0.2/32:5000-5000"},
				"router":  {"[132] 100.64.0.2/32 > 10.1.0.0/16:5000-5000,10.2.0.0/16:5000-5000,100.64.0.3/32:5000-5000"},
				"router2": {"[132] 100.64.0.2/32 > 100.64.0.4/32:5000-5000"},
				"exit":    {"[132] 100.64.0.2/32 > 0.0.0.0/0:5000-5000,100.64.0.5/32:5000-5000"},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tn.SetGrants([]Grant{tt.grant}); err != nil {
				t.Fatal(err)
			}
			tn.mu.Lock()
			defer tn.mu.Unlock()
			got := map[string][]string{}
			for _, n := range tn.nodes {
				if f := text(tn.filterLocked(n)); len(f) > 0 {
					got[n.label] = f
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("filters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInternetIsNobodysOwn(t *testing.T) {
	tn := bench(t)
	if err := tn.SetGrants([]Grant{{[]string{"alice"}, []string{"autogroup:internet"}, []string{"*"}}}); err != nil {
		t.Fatal(err)
	}
	tn.mu.Lock()
	rules := tn.filterLocked(tn.nodes[4])
	tn.mu.Unlock()
	contains := func(s string) bool {
		for _, d := range rules[0].DstPorts {
			if netip.MustParsePrefix(d.IP).Contains(netip.MustParseAddr(s)) {
				return true
			}
		}
		return false
	}
	got := map[string]bool{}
	want := map[string]bool{
		"8.8.8.8": true, "198.51.100.7": true, "2001:db8:51::7": true,
		"10.1.2.3": false, "172.31.0.1": false, "192.168.1.1": false, "100.64.0.1": false,
		"169.254.169.254": false, "127.0.0.1": false, "224.0.0.1": false, "fd00::1": false, "fe80::1": false,
	}
	for s := range want {
		got[s] = contains(s)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("internet (-want +got):\n%s", diff)
	}
}

func TestWhoSeesWhom(t *testing.T) {
	tn := bench(t)
	grants := []Grant{
		{[]string{"alice"}, []string{"tag:web"}, []string{"tcp:443"}},
		{[]string{"tag:web"}, []string{"10.2.0.0/16"}, []string{"*"}},
	}
	if err := tn.SetGrants(grants); err != nil {
		t.Fatal(err)
	}
	tn.mu.Lock()
	defer tn.mu.Unlock()
	got := map[string][]string{}
	for _, n := range tn.nodes {
		for _, p := range sortedPeers(tn.netmapLocked(n).peers) {
			got[n.label] = append(got[n.label], strings.TrimSuffix(p.Name, ".tail.test."))
		}
	}
	want := map[string][]string{"alice": {"web"}, "web": {"alice", "router"}, "router": {"web"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
}

func TestWhoSeesTheExit(t *testing.T) {
	tn := bench(t)
	grants := []Grant{
		{[]string{"100.64.0.0/31", "alice"}, []string{"exit"}, []string{"*"}},
		{[]string{"100.64.0.2"}, []string{"autogroup:internet"}, []string{"*"}},
	}
	if err := tn.SetGrants(grants); err != nil {
		t.Fatal(err)
	}
	tn.mu.Lock()
	defer tn.mu.Unlock()
	got := map[string][]netip.Prefix{}
	for _, n := range tn.nodes {
		if p := tn.netmapLocked(n).peers[5]; p != nil {
			for _, a := range p.AllowedIPs {
				if a.Addr().Is4() {
					got[n.label] = append(got[n.label], a)
				}
			}
		}
	}
	exit := tn.nodes[4].addrs()[0]
	want := map[string][]netip.Prefix{"alice": {exit}, "web": {exit, netip.MustParsePrefix("0.0.0.0/0")}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("what the exit node may carry for each (-want +got):\n%s", diff)
	}
}

func TestPrimaryRouter(t *testing.T) {
	tn := bench(t)
	route := netip.MustParsePrefix("10.1.0.0/16")
	set := func(label string, streams int) {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		tn.byNameLocked(label).streams = streams
		tn.changedLocked()
	}
	var got []tailcfg.NodeID
	note := func() {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		got = append(got, tn.primary[route])
	}
	note() // nobody online: the first
	set("router2", 1)
	note() // the only one online
	set("router", 1)
	note() // the present one stays
	set("router2", 0)
	note() // over to the other
	if err := tn.ApproveRoutes("router"); err != nil {
		t.Fatal(err)
	}
	note() // not approved any more
	if diff := cmp.Diff([]tailcfg.NodeID{3, 4, 4, 3, 4}, got); diff != "" {
		t.Errorf("primary router of %v (-want +got):\n%s", route, diff)
	}
}

func TestLabels(t *testing.T) {
	got := map[string]string{}
	want := map[string]string{
		"web": "web", "Web.Example.COM": "web", "my_host 1": "my-host-1", "-x-": "x", "": "node", "ünï": "n",
		strings.Repeat("a", 70): strings.Repeat("a", 63),
	}
	for in := range want {
		got[in] = label(in)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
