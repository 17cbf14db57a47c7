package debug

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/types/dnstype"
	"tailscale.com/types/key"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// fakeNode says what a test wants said.
type fakeNode struct {
	snapshot snapshot.Snapshot
	status   config.Status
	config   *config.Config
	netmap   *netmap.NetworkMap
	engine   *ipnstate.Status
	metrics  http.HandlerFunc
	hold     chan struct{} // when set, Status waits for its end
}

func (n *fakeNode) Snapshot() snapshot.Snapshot { return n.snapshot }
func (n *fakeNode) ConfigStatus() config.Status { return n.status }
func (n *fakeNode) Config() *config.Config      { return n.config }
func (n *fakeNode) NetMap() *netmap.NetworkMap  { return n.netmap }

func (n *fakeNode) Status() *ipnstate.Status {
	if n.hold != nil {
		<-n.hold
	}
	return n.engine
}

func (n *fakeNode) ServeMetrics(w http.ResponseWriter, r *http.Request) {
	if n.metrics != nil {
		n.metrics(w, r)
	}
}

func (n *fakeNode) ServeMagicsock(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("<h1>magicsock</h1>"))
}

type fakePlane struct {
	status     dataplane.Status
	inspection dataplane.Inspection
	inspectErr error
	counters   dataplane.Counters
	countErr   error
}

func (d *fakePlane) Status() dataplane.Status               { return d.status }
func (d *fakePlane) Inspect() (dataplane.Inspection, error) { return d.inspection, d.inspectErr }
func (d *fakePlane) Counters() (dataplane.Counters, error)  { return d.counters, d.countErr }

// fixedNow is when the tests' pages are made.
var fixedNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return fixedNow.Add(-d) }

// newPages returns pages of the parts, made at fixedNow.
func newPages(n Node, d Dataplane) *Pages {
	return New(Options{Node: n, Dataplane: d, Version: "v1.2.3", Now: func() time.Time { return fixedNow }})
}

// emptyNode and emptyPlane are a gateway that has just started.
func emptyNode() *fakeNode {
	return &fakeNode{snapshot: snapshot.Snapshot{Version: "v1.2.3", BackendState: "NoState"}}
}

// busyNode is a gateway with an exit node in use, four peers, and a faulty configuration file.
func busyNode() *fakeNode {
	nm := busyNetMap()
	seen := before(3 * time.Hour)
	reasons := map[config.Reason]int{}
	for _, r := range config.Reasons() {
		reasons[r] = 0
	}
	reasons[config.Syntax] = 2
	return &fakeNode{
		snapshot: snapshot.Snapshot{
			Version: "v1.2.3", Time: fixedNow, BackendState: "Running", Ready: true,
			Problems: []string{`config file /etc/tailgate/config.json, line 3: "acceptRoutes" wants true or false`},
			DeviceID: "nSELF", Name: "egress-payments.example.ts.net", Routes: prefixes("10.0.0.0/8"),
			ExitNode: snapshot.ExitNode{Wanted: "exit-fra1", ID: "nEXIT", Name: "exit-fra1.example.ts.net", Online: true},
		},
		status: config.Status{
			LastReload: before(5 * time.Minute), Hash: "0123456789ab", Result: "syntax", Generation: 3, Latency: 4250 * time.Microsecond,
			Err:    errors.New(`config file /etc/tailgate/config.json, line 3: "acceptRoutes" wants true or false`),
			Errors: reasons,
		},
		config: &config.Config{
			Hash: "0123456789ab", LoadedFrom: "/etc/tailgate/config.json", Locked: true, ServerURL: "https://control.example.com",
			AuthKey: "file:/etc/tailgate/authkey", ExitNode: config.ParseExitNode("exit-fra1"),
			Prefs: ipn.MaskedPrefs{Prefs: ipn.Prefs{WantRunning: true, RouteAll: true, CorpDNS: true, Hostname: "egress-payments"}},
		},
		netmap: nm,
		engine: &ipnstate.Status{Peer: map[key.NodePublic]*ipnstate.PeerStatus{
			nm.Peers[0].Key(): {CurAddr: "192.0.2.7:41641", Relay: "fra", Active: true, RxBytes: 1536, TxBytes: 5 << 30, LastHandshake: before(42 * time.Second)},
			nm.Peers[1].Key(): {Relay: "ams", RxBytes: 100, TxBytes: 200, LastHandshake: before(26 * time.Hour)},
			nm.Peers[2].Key(): {PeerRelay: "192.0.2.9:7777:vni:1", Active: true},
			nm.Peers[3].Key(): {LastSeen: seen},
		}},
		metrics: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("# TYPE tailscaled_advertised_routes gauge\n# HELP tailscaled_advertised_routes Number of routes.\ntailscaled_advertised_routes 0\n"))
		},
	}
}

func busyNetMap() *netmap.NetworkMap {
	node := func(id int, stable, name string, online *bool, allowed ...string) *tailcfg.Node {
		own := prefixes("100.64.0."+string(rune('0'+id))+"/32", "fd7a:115c:a1e0::"+string(rune('0'+id))+"/128")
		return &tailcfg.Node{
			ID: tailcfg.NodeID(id), StableID: tailcfg.StableNodeID(stable), Name: name, Key: publicKey(byte(id)),
			Addresses: own, AllowedIPs: append(prefixes(allowed...), own...), Online: online,
			Hostinfo: (&tailcfg.Hostinfo{OS: "linux"}).View(),
		}
	}
	yes, no := true, false
	self := node(1, "nSELF", "egress-payments.example.ts.net.", &yes)
	self.Tags, self.KeyExpiry = []string{"tag:egress-payments"}, fixedNow.Add(90*24*time.Hour)
	exit := node(2, "nEXIT", "exit-fra1.example.ts.net.", &yes, "0.0.0.0/0", "::/0")
	router := node(3, "nROUTER", "router.example.ts.net.", &yes, "10.0.0.0/8", "fd7a:115c:a1e0:b1a:0:7:a01:0/112")
	router.Tags = []string{"tag:router"}
	spare := node(4, "nSPARE", "exit-ams1.example.ts.net.", nil, "0.0.0.0/0", "::/0", "10.0.0.0/8")
	gone := node(5, "nGONE", "", &no)
	seen := before(3 * time.Hour)
	gone.LastSeen = &seen
	return &netmap.NetworkMap{
		SelfNode: self.View(), NodeKey: self.Key, Domain: "example.com",
		Peers: []tailcfg.NodeView{exit.View(), router.View(), spare.View(), gone.View()},
		DNS: tailcfg.DNSConfig{
			Proxied: true, Domains: []string{"example.ts.net"}, Resolvers: []*dnstype.Resolver{{Addr: "192.0.2.53"}},
			Routes: map[string][]*dnstype.Resolver{"corp.example.com.": {{Addr: "10.0.0.53"}}, "example.ts.net.": nil},
		},
	}
}

// publicKey returns the same key for the same n.
func publicKey(n byte) key.NodePublic {
	var k key.NodePublic
	text := []byte("nodekey:" + "00000000000000000000000000000000000000000000000000000000000000")
	text = append(text, "0123456789abcdef"[n>>4], "0123456789abcdef"[n&15])
	if err := k.UnmarshalText(text); err != nil {
		panic(err)
	}
	return k
}

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// busyPlane has two members, and a kernel that lacks a route and a rule of its table.
func busyPlane() *fakePlane {
	route := netstate.Route{Table: ident.TableGateway, Dst: prefixes("100.64.0.0/10")[0], Metric: ident.MetricPreferred, Type: netstate.Unicast, Link: ident.TUN}
	want := netstate.State{Routes: []netstate.Route{route}}
	return &fakePlane{
		status: dataplane.Status{
			Applied: map[string]int{"RouteAdd": 7, "nftables": 2}, Repairs: 1, LastApply: before(90 * time.Second),
			Err: errors.New("route add: operation not permitted"),
		},
		inspection: dataplane.Inspection{
			Desired: want, Plan: netstate.Diff(netstate.State{}, want),
			DesiredTable:  "table inet tailgate {\n\tchain input {\n\t\tdrop\n\t}\n}\n",
			ObservedTable: "table inet tailgate {\n\tchain input {\n\t}\n}\n",
		},
		counters: dataplane.Counters{
			Members: []kernel.LinkStats{
				{Name: "tg1", Alias: "tailgate:pod-a@4026532000", RxBytes: 1000, TxBytes: 2000, RxPackets: 10, TxPackets: 20, RxDropped: 1},
				{Name: "tg2", Alias: "tailgate:b\"\\\n", RxBytes: 1 << 40, TxBytes: 3 << 40, RxPackets: 30, TxPackets: 40, TxDropped: 2},
			},
			TUN: []kernel.LinkStats{{Name: "tailscale0", RxBytes: 5000, TxBytes: 6000, RxPackets: 50, TxPackets: 60}},
			Dropped: []ruleset.Counter{
				{Chain: "input", Comment: "tailnet_to_gateway", Packets: 3, Bytes: 180},
				{Chain: "forward", Comment: "neighbour", Packets: 4, Bytes: 240},
				{Chain: "input", Comment: "neighbour", Packets: 1, Bytes: 60},
			},
			ConntrackUsed: 12, ConntrackMax: 65536,
		},
	}
}
