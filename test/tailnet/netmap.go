package tailnet

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/util/zstdframe"
)

// keepAlive is how often a silent map stream gets a sign of life; nodes give up
// after two minutes.
const keepAlive = 50 * time.Second

func (t *Tailnet) serveMap(w http.ResponseWriter, r *http.Request, machine key.MachinePublic, derp *tailcfg.DERPMap) {
	var req tailcfg.MapRequest
	if !decode(w, r, &req) {
		return
	}
	t.mu.Lock()
	n := t.byKeyLocked(req.NodeKey)
	known := machineOf(n, machine)
	if known && !req.Stream {
		t.updateLocked(n, &req)
	}
	t.mu.Unlock()
	if !known {
		// The words that a deleted node hears (tailscale/tailscale#12032).
		http.Error(w, "node not found", http.StatusNotFound)
		return
	}
	if !req.Stream && req.OmitPeers {
		return // an update, which asks for nothing
	}
	s := &stream{t: t, n: n, req: &req, w: w, derp: derp}
	if err := s.run(r.Context()); err != nil {
		t.opts.Logf("control: map stream of %v: %v", req.NodeKey.ShortString(), err)
	}
}

// updateLocked takes what a node reports of itself.
func (t *Tailnet) updateLocked(n *node, req *tailcfg.MapRequest) {
	n.endpoints = slices.DeleteFunc(req.Endpoints, func(ap netip.AddrPort) bool {
		return ap.Addr().Zone() != "" || ap.Addr().IsLinkLocalUnicast()
	})
	n.disco, n.version, n.lastSeen = req.DiscoKey, req.Version, time.Now()
	if req.Hostinfo != nil {
		t.setHostinfoLocked(n, req.Hostinfo)
	}
	t.changedLocked()
}

// netmap is what one node is told.
type netmap struct {
	self   *tailcfg.Node
	peers  map[tailcfg.NodeID]*tailcfg.Node
	filter []tailcfg.FilterRule
	dns    *tailcfg.DNSConfig
}

func (t *Tailnet) netmapLocked(n *node) netmap {
	m := netmap{self: t.wireLocked(n), peers: map[tailcfg.NodeID]*tailcfg.Node{}, filter: t.filterLocked(n), dns: t.dnsConfigLocked(n)}
	m.self.CapMap = maps.Clone(t.attrsLocked(n))
	if m.self.CapMap == nil {
		m.self.CapMap = tailcfg.NodeCapMap{}
	}
	m.self.CapMap[tailcfg.NodeAttrCacheNetworkMaps] = nil
	exit := t.mayExitLocked(n)
	for _, p := range t.nodes {
		if p == n || !t.mayReachLocked(n, p) && !t.mayReachLocked(p, n) {
			continue
		}
		peer := t.wireLocked(p)
		if !exit {
			peer.AllowedIPs = slices.DeleteFunc(peer.AllowedIPs, isDefault)
		}
		m.peers[p.id] = peer
	}
	return m
}

// wireLocked is node n as peers are told.
func (t *Tailnet) wireLocked(n *node) *tailcfg.Node {
	online := n.streams > 0
	served := t.servedLocked(n)
	w := &tailcfg.Node{
		ID: n.id, StableID: n.stable, Name: n.label + "." + t.opts.Domain + ".", User: n.user(),
		Key: n.key, Machine: n.machine, DiscoKey: n.disco,
		Addresses: n.addrs(), AllowedIPs: append(n.addrs(), served...),
		PrimaryRoutes: slices.DeleteFunc(slices.Clone(served), isDefault),
		Endpoints:     n.endpoints, HomeDERP: n.homeDERP, Created: n.created, Cap: n.version, Tags: n.tags,
		Online: &online, MachineAuthorized: true, CapMap: t.attrsLocked(n),
	}
	if n.hostinfo != nil {
		w.Hostinfo = n.hostinfo.View()
	}
	if !online {
		seen := n.lastSeen
		w.LastSeen = &seen
	}
	if n.expired {
		w.KeyExpiry, w.Expired = n.created, true
	}
	return w
}

// stream is one map request being answered.
type stream struct {
	t    *Tailnet
	n    *node
	req  *tailcfg.MapRequest
	w    http.ResponseWriter
	derp *tailcfg.DERPMap
	last *netmap
}

func (s *stream) run(ctx context.Context) error {
	if s.req.Stream {
		s.online(1)
		defer s.online(-1)
	}
	for {
		refused, code, err := s.t.waitThawed(ctx)
		if err != nil || code != 0 {
			return nil
		}
		s.t.mu.Lock()
		changed := s.t.changed
		now := s.t.netmapLocked(s.n)
		current := s.n.key == s.req.NodeKey
		s.t.mu.Unlock()
		select {
		case <-s.n.gone:
			return nil
		default:
		}
		if !current {
			return nil
		}
		if err := s.tell(now); err != nil || !s.req.Stream {
			return err
		}
		if err := s.idle(ctx, changed, refused); err != nil {
			return nil
		}
	}
}

func (s *stream) online(delta int) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.n.streams += delta
	s.n.lastSeen = time.Now()
	s.t.changedLocked()
}

// idle keeps the stream alive until something changed. An error ends the stream.
func (s *stream) idle(ctx context.Context, changed, refused <-chan struct{}) error {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-changed:
			return nil
		case <-refused:
			return nil
		case <-s.n.gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if _, _, err := s.t.waitThawed(ctx); err != nil {
				return err
			}
			if err := s.send(&tailcfg.MapResponse{KeepAlive: true}); err != nil {
				return err
			}
		}
	}
}

// tell sends what differs from what was told before, and nothing if nothing does.
func (s *stream) tell(now netmap) error {
	res := &tailcfg.MapResponse{}
	if s.last == nil {
		t := time.Now()
		res.Node, res.DERPMap, res.DNSConfig, res.Domain = now.self, s.derp, now.dns, s.t.opts.Domain
		res.CollectServices, res.UserProfiles, res.ControlTime = "false", s.t.userProfiles(), &t
		res.Peers = sortedPeers(now.peers)
		res.PacketFilters = map[string][]tailcfg.FilterRule{"base": now.filter}
	} else {
		delta(res, s.last, &now)
	}
	s.last = &now
	if reflect.ValueOf(*res).IsZero() {
		return nil
	}
	return s.send(res)
}

func delta(res *tailcfg.MapResponse, old, now *netmap) {
	if !same(old.self, now.self) {
		res.Node = now.self
	}
	if !same(old.dns, now.dns) {
		res.DNSConfig = now.dns
	}
	if !same(old.filter, now.filter) {
		res.PacketFilters = map[string][]tailcfg.FilterRule{"base": now.filter}
	}
	for _, p := range sortedPeers(now.peers) {
		if !same(old.peers[p.ID], p) {
			res.PeersChanged = append(res.PeersChanged, p)
		}
	}
	for _, p := range sortedPeers(old.peers) {
		if now.peers[p.ID] == nil {
			res.PeersRemoved = append(res.PeersRemoved, p.ID)
		}
	}
}

func sortedPeers(m map[tailcfg.NodeID]*tailcfg.Node) []*tailcfg.Node {
	return slices.SortedFunc(maps.Values(m), func(a, b *tailcfg.Node) int { return int(a.ID - b.ID) })
}

// same compares as the wire does.
func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// send writes one frame: its length in four bytes, little endian, and the JSON.
func (s *stream) send(res *tailcfg.MapResponse) error {
	body, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("encode map response: %w", err)
	}
	if s.req.Compress == "zstd" {
		body = zstdframe.AppendEncode(nil, body, zstdframe.FastestCompression)
	}
	frame := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	if _, err := s.w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send map response: %w", err)
	}
	return http.NewResponseController(s.w).Flush()
}
