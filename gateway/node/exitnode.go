package node

import (
	"encoding/json"
	"os"

	"tailscale.com/ipn"
	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// exitState is the exit node as last put into the preferences.
type exitState struct {
	applied config.Resolution
	// remembered is what the selector last stood for, from a file: after a restart, and until there is a
	// netmap, the engine must go on with that node rather than cut its flows.
	remembered rememberedExit
}

type rememberedExit struct {
	Wanted   string               `json:"wanted"`
	StableID tailcfg.StableNodeID `json:"stableID"`
}

// prefsFor returns all preferences of cfg, the exit node and a name among them.
func (n *Node) prefsFor(cfg *config.Config) ipn.MaskedPrefs {
	edits := cfg.Prefs
	addHostname(&edits, n.o.Hostname)
	r := n.resolveExitNode(cfg.ExitNode)
	addExit(&edits, r)
	n.setExit(r)
	return edits
}

// addExit puts the exit-node preferences of r into edits.
func addExit(edits *ipn.MaskedPrefs, r config.Resolution) {
	x := r.Prefs()
	edits.ExitNodeID, edits.ExitNodeIDSet = x.ExitNodeID, x.ExitNodeIDSet
	edits.ExitNodeIP, edits.ExitNodeIPSet = x.ExitNodeIP, x.ExitNodeIPSet
	edits.AutoExitNode, edits.AutoExitNodeSet = x.AutoExitNode, x.AutoExitNodeSet
}

// followExitNode resolves the exit node again: its name may have moved to another node,
// or the node may have come, gone, or been approved. The caller holds n.change.
func (n *Node) followExitNode() {
	cfg := n.inForce
	if cfg == nil {
		return
	}
	r := n.resolveExitNode(cfg.ExitNode)
	if r == n.exitApplied() {
		return
	}
	var edits ipn.MaskedPrefs
	addExit(&edits, r)
	if _, err := n.b.EditPrefs(&edits); err != nil {
		n.log.Error("exit node not applied", "wanted", cfg.ExitNode.String(), "err", err)
		return
	}
	n.setExit(r)
}

func (n *Node) exitApplied() config.Resolution {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exit.applied
}

func (n *Node) setExit(r config.Resolution) {
	n.mu.Lock()
	changed := r != n.exit.applied
	n.exit.applied = r
	n.mu.Unlock()
	if !changed {
		return
	}
	// The error is in the dataplane's status; the routes to come try again.
	_ = n.setIntent(func(g *topology.Gateway) { g.NoExit = r.Lacking() })
	log := n.log.With("wanted", r.Wanted.String(), "id", string(r.ID), "reason", string(r.Reason))
	if r.Msg != "" {
		log.Warn("exit node: " + r.Msg)
	} else {
		log.Info("exit node")
	}
}

// resolveExitNode finds the node that the selector stands for among the netmap's peers, or, before
// there is a netmap, the one it stood for when the process before this one ended.
func (n *Node) resolveExitNode(sel config.ExitNode) config.Resolution {
	nm := n.b.NetMapWithPeers()
	if nm == nil {
		r := sel.Resolve(nil)
		if m := n.rememberExit(); m.Wanted == sel.String() && m.StableID != "" {
			r = config.Resolution{Wanted: sel, ID: m.StableID, Name: string(m.StableID), Reason: config.ExitChosen}
		}
		return r
	}
	r := sel.Resolve(exitPeers(nm))
	n.keepExit(rememberedExit{Wanted: sel.String(), StableID: r.ID})
	return r
}

func exitPeers(nm *netmap.NetworkMap) []config.Peer {
	peers := make([]config.Peer, 0, len(nm.Peers))
	for _, p := range nm.Peers {
		peer := config.Peer{
			StableID: p.StableID(), Name: p.Name(), Online: p.Online().GetOr(false),
			OffersExit: tsaddr.ContainsExitRoutes(p.AllowedIPs()),
		}
		for _, a := range p.Addresses().All() {
			peer.IPs = append(peer.IPs, a.Addr())
		}
		peers = append(peers, peer)
	}
	return peers
}

func (n *Node) rememberExit() rememberedExit {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.exit.remembered == (rememberedExit{}) {
		// A file that is absent or spoilt remembers nothing.
		if data, err := os.ReadFile(n.exitFile()); err == nil {
			_ = json.Unmarshal(data, &n.exit.remembered)
		}
	}
	return n.exit.remembered
}

func (n *Node) keepExit(m rememberedExit) {
	if n.rememberExit() == m {
		return
	}
	n.mu.Lock()
	n.exit.remembered = m
	n.mu.Unlock()
	data, err := json.Marshal(m)
	if err == nil {
		err = writeFile(n.exitFile(), data)
	}
	if err != nil {
		n.log.Warn("exit node not remembered for the next start", "err", err)
	}
}
