package debug

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"
	"tailscale.com/types/dnstype"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/internal/page"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// netmapView is the page /debug/netmap.
type netmapView struct {
	Problems []string
	Ready    bool
	State    string
	// Known: there is a netmap. Cached: it is from the disk, of an earlier process.
	Known, Cached bool
	Self          selfView
	Exit          snapshot.ExitNode
	Offers        []string // names of the other nodes that offer an exit
	Peers         []peerView
	Routes        []routeView
	DNS           dnsView
}

type selfView struct {
	Name, ID, Key string
	Addrs, Tags   []string
	KeyExpiry     time.Time
}

type peerView struct {
	Name, ID, OS        string
	Addrs, Tags, Routes []string
	Exit                string // "in use", "offered" or ""
	Online              string // "online", "offline", "unknown"
	Path                string // "direct 192.0.2.1:41641", "relay fra", …
	Active              bool   // sent to in the last two minutes
	Handshake, LastSeen time.Time
	Rx, Tx              uint64 // bytes from and to the peer
}

// routeView is a route beyond the peers' own addresses.
type routeView struct {
	Prefix, Note string
	Accepted     bool
	Via          []string // the peers that serve it
}

type dnsView struct {
	MagicDNS             bool
	Suffix               string
	Domains, Nameservers []string
	Split                []splitView
}

// splitView is a domain whose names other nameservers know; none: the gateway itself.
type splitView struct {
	Domain      string
	Nameservers []string
}

func (p *Pages) netmapView() netmapView {
	s := p.o.Node.Snapshot()
	v := netmapView{State: s.BackendState, Exit: s.ExitNode}
	v.Ready, v.Problems = p.readiness()
	nm := p.o.Node.NetMap()
	if nm == nil {
		return v
	}
	v.Known, v.Cached = true, nm.Cached
	v.Self = selfOf(nm)
	v.Peers = peersOf(nm, p.o.Node.Status(), s.ExitNode.ID)
	for _, peer := range v.Peers {
		if peer.Exit == exitOffered {
			v.Offers = append(v.Offers, peer.Name)
		}
	}
	cfg := p.o.Node.Config()
	v.Routes = routesOf(nm, func(r netip.Prefix) bool {
		// The snapshot's are those to steer onto members, 4via6 not among them.
		return slices.Contains(s.Routes, r) || cfg != nil && cfg.Prefs.RouteAll
	})
	v.DNS = dnsOf(nm)
	return v
}

func selfOf(nm *netmap.NetworkMap) selfView {
	self := nm.SelfNode
	if !self.Valid() {
		return selfView{}
	}
	v := selfView{
		Name: nodeName(self), ID: string(self.StableID()), Key: self.Key().String(), Tags: self.Tags().AsSlice(),
		KeyExpiry: self.KeyExpiry(),
	}
	for _, a := range self.Addresses().All() {
		v.Addrs = append(v.Addrs, a.Addr().String())
	}
	return v
}

// nodeName is the MagicDNS name, or the ID of a node that has none.
func nodeName(n tailcfg.NodeView) string {
	return cmp.Or(strings.TrimSuffix(n.Name(), "."), string(n.StableID()))
}

// exitOffered and exitUsed are what peerView.Exit says.
const (
	exitOffered = "offered"
	exitUsed    = "in use"
)

// peersOf returns the peers by name; status may be nil.
func peersOf(nm *netmap.NetworkMap, status *ipnstate.Status, exitID string) []peerView {
	if status == nil {
		status = &ipnstate.Status{}
	}
	vs := page.Each(nm.Peers, func(n tailcfg.NodeView) peerView {
		v := describePeer(n, status.Peer[n.Key()])
		switch {
		case exitID != "" && v.ID == exitID:
			v.Exit = exitUsed
		case tsaddr.ContainsExitRoutes(n.AllowedIPs()):
			v.Exit = exitOffered
		}
		return v
	})
	slices.SortFunc(vs, func(a, b peerView) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return vs
}

// describePeer describes a peer; st is nil when the engine does not know it.
func describePeer(n tailcfg.NodeView, st *ipnstate.PeerStatus) peerView {
	v := peerView{Name: nodeName(n), ID: string(n.StableID()), Tags: n.Tags().AsSlice(), Online: "unknown"}
	if n.Hostinfo().Valid() {
		v.OS = n.Hostinfo().OS()
	}
	for _, a := range n.Addresses().All() {
		v.Addrs = append(v.Addrs, a.Addr().String())
	}
	v.Routes = page.Texts(beyondOwn(n))
	if online, ok := n.Online().GetOk(); ok {
		v.Online = map[bool]string{true: "online", false: "offline"}[online]
	}
	v.LastSeen = n.LastSeen().GetOr(time.Time{})
	if st == nil {
		return v
	}
	v.Path, v.Active = path(st), st.Active
	v.Handshake = st.LastHandshake
	v.Rx, v.Tx = uint64(max(st.RxBytes, 0)), uint64(max(st.TxBytes, 0))
	return v
}

// path says how packets get to a peer now.
func path(st *ipnstate.PeerStatus) string {
	switch {
	case st.CurAddr != "":
		return "direct " + st.CurAddr
	case st.PeerRelay != "":
		return "peer relay " + st.PeerRelay
	case st.Relay != "":
		return "relay " + st.Relay
	}
	return ""
}

// beyondOwn returns what a peer routes but its own addresses and the default routes, in order.
func beyondOwn(n tailcfg.NodeView) []netip.Prefix {
	var rs []netip.Prefix
	own := n.Addresses().AsSlice()
	for _, r := range n.AllowedIPs().All() {
		if !slices.Contains(own, r) && !tsaddr.IsExitRoute(r) {
			rs = append(rs, r)
		}
	}
	slices.SortFunc(rs, netip.Prefix.Compare)
	return rs
}

func routesOf(nm *netmap.NetworkMap, accepted func(netip.Prefix) bool) []routeView {
	via := map[netip.Prefix][]string{}
	for _, n := range nm.Peers {
		for _, r := range beyondOwn(n) {
			via[r] = append(via[r], nodeName(n))
		}
	}
	return page.Each(slices.SortedFunc(maps.Keys(via), netip.Prefix.Compare), func(r netip.Prefix) routeView {
		slices.Sort(via[r])
		return routeView{Prefix: r.String(), Note: via6(r), Accepted: accepted(r), Via: via[r]}
	})
}

// via6 says what a 4via6 route stands for (https://tailscale.com/kb/1201); "" for any other.
func via6(r netip.Prefix) string {
	const v4Bits = 96 // before them prefix and site
	if !tsaddr.IsViaPrefix(r) || r.Bits() < v4Bits {
		return ""
	}
	a := r.Addr().As16()
	v4 := netip.PrefixFrom(tsaddr.UnmapVia(r.Addr()), r.Bits()-v4Bits)
	return fmt.Sprintf("4via6: %s at site %d", v4, binary.BigEndian.Uint32(a[8:12]))
}

func dnsOf(nm *netmap.NetworkMap) dnsView {
	resolvers := func(rs []*dnstype.Resolver) []string {
		return page.Each(rs, func(r *dnstype.Resolver) string { return r.Addr })
	}
	v := dnsView{MagicDNS: nm.DNS.Proxied, Suffix: nm.MagicDNSSuffix(), Domains: nm.DNS.Domains, Nameservers: resolvers(nm.DNS.Resolvers)}
	for _, domain := range slices.Sorted(maps.Keys(nm.DNS.Routes)) {
		v.Split = append(v.Split, splitView{strings.TrimSuffix(domain, "."), resolvers(nm.DNS.Routes[domain])})
	}
	return v
}
