package node

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"tailscale.com/health"
	"tailscale.com/ipn"
	"tailscale.com/net/tsaddr"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// publish makes a snapshot and gives it to the followers if it says anything new.
func (n *Node) publish() error {
	s := n.snapshot()
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Time = n.last.Time
	if reflect.DeepEqual(s, n.last) {
		return nil
	}
	if s.Ready != n.last.Ready {
		n.log.Info("gateway", "ready", s.Ready, "problems", s.Problems)
	}
	s.Time = time.Now()
	n.last = s
	return n.pub.Set(s)
}

func (n *Node) snapshot() snapshot.Snapshot {
	s := snapshot.Snapshot{Version: n.o.Version, BackendState: ipn.NoState.String()}
	cs := n.loader.Status()
	s.Config = snapshot.Config{Hash: cs.Hash, Generation: cs.Generation}
	if cs.Err != nil {
		s.Config.Error = cs.Err.Error()
	}
	n.mu.Lock()
	b, broken := n.b, n.broken
	n.mu.Unlock()
	if b == nil {
		if broken != nil {
			s.Problems = append(s.Problems, broken.Error())
		}
		return s
	}
	state := b.State()
	s.BackendState = state.String()
	plane := n.o.Dataplane.Status()
	s.AuthKeyRefused = n.login.without(state, b.device()) && n.bus.lastError() != ""
	s.Ready = state == ipn.Running && plane.InPlace() && !s.AuthKeyRefused
	prefs := b.Prefs()
	if nm := b.NetMapWithPeers(); nm != nil {
		describeSelf(&s, nm)
		if prefs.RouteAll() {
			s.Routes = acceptedRoutes(nm)
		}
		s.ExitNode = n.exitNodeInUse(nm, prefs)
	} else {
		s.ExitNode = n.exitNodeInUse(&netmap.NetworkMap{}, prefs)
	}
	s.LocalRoutes = plane.Wanted.Local
	s.Problems = n.problems(b, plane.Problem())
	if m := s.ExitNode.Message; m != "" {
		s.Problems = append(s.Problems, m)
	}
	return s
}

func describeSelf(s *snapshot.Snapshot, nm *netmap.NetworkMap) {
	self := nm.SelfNode
	if !self.Valid() {
		return
	}
	if !nm.Cached {
		s.DeviceID = string(self.StableID())
	}
	s.NodeKey = self.Key().String()
	s.Name = strings.TrimSuffix(self.Name(), ".")
	s.Tags = self.Tags().AsSlice()
	s.KeyExpiry = self.KeyExpiry()
	s.MagicDNSSuffix = nm.MagicDNSSuffix()
	for _, a := range self.Addresses().All() {
		s.Addrs = append(s.Addrs, a.Addr())
	}
}

// acceptedRoutes are what peers route beyond what every tailnet has: not their own addresses, not
// 4via6 (which lies in the tailnet's ULA), not default routes.
func acceptedRoutes(nm *netmap.NetworkMap) []netip.Prefix {
	var rs []netip.Prefix
	own := topology.TailnetPrefixes()
	for _, p := range nm.Peers {
		for _, r := range p.AllowedIPs().All() {
			inOwn := slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Contains(r.Addr()) && o.Bits() <= r.Bits() })
			if !inOwn && !tsaddr.IsExitRoute(r) {
				rs = append(rs, r)
			}
		}
	}
	slices.SortFunc(rs, netip.Prefix.Compare)
	return slices.Compact(rs)
}

// exitNodeInUse tells what is wanted and what the engine uses: for "auto:…" the engine chooses.
func (n *Node) exitNodeInUse(nm *netmap.NetworkMap, prefs ipn.PrefsView) snapshot.ExitNode {
	r := n.exitApplied()
	e := snapshot.ExitNode{Wanted: r.Wanted.String()}
	if r.Wanted.Kind == config.ExitNone {
		return e
	}
	for _, p := range nm.Peers {
		if p.StableID() == prefs.ExitNodeID() {
			e.ID, e.Name, e.Online = string(p.StableID()), strings.TrimSuffix(p.Name(), "."), p.Online().GetOr(false)
			e.Message = r.Msg // such as that it is offline
			return e
		}
	}
	e.Message = r.Msg
	if e.Message == "" {
		e.Message = "exit node " + e.Wanted + " is not known yet; until it is, exit traffic is dropped"
	}
	return e
}

// problems are sentences for a person, what stops traffic first.
func (n *Node) problems(b *backend, kernel string) []string {
	var ps []string
	add := func(msg string) {
		if msg != "" && !slices.Contains(ps, msg) {
			ps = append(ps, msg)
		}
	}
	add(kernel)
	add(n.login.problem())
	if n.login.without(b.State(), b.device()) {
		if msg := n.bus.lastError(); msg != "" {
			add("the tailnet refused the auth key (" + msg + "); put a valid one in its place, and the gateway will log in by itself")
		}
	}
	if err := b.store.lastError(); err != nil {
		add(err.Error())
	}
	if cs := n.loader.Status(); cs.Err != nil {
		add(cs.Err.Error())
	}
	if st := b.HealthTracker().CurrentState(); st != nil {
		var ws []health.UnhealthyState
		for _, w := range st.Warnings {
			ws = append(ws, w)
		}
		slices.SortFunc(ws, func(a, b health.UnhealthyState) int {
			return strings.Compare(string(a.WarnableCode), string(b.WarnableCode))
		})
		for _, w := range ws {
			if w.Severity != health.SeverityLow {
				add(w.Text)
			}
		}
	}
	return ps
}
