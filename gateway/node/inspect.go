package node

import (
	"net/http"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// Snapshot returns what was last published.
func (n *Node) Snapshot() snapshot.Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// ConfigStatus returns the state of the configuration file.
func (n *Node) ConfigStatus() config.Status { return n.loader.Status() }

// Config returns the configuration in force; nil: none yet. It encodes as JSON without its secrets.
func (n *Node) Config() *config.Config { return n.loader.Current() }

// NetMap returns the current netmap with all peers; nil before there is one. It holds no private key.
func (n *Node) NetMap() *netmap.NetworkMap {
	if b := n.backendOrNil(); b != nil {
		return b.NetMapWithPeers()
	}
	return nil
}

// Status returns what "tailscale status" shows; nil before there is a backend.
func (n *Node) Status() *ipnstate.Status {
	if b := n.backendOrNil(); b != nil {
		return b.LocalBackend.Status()
	}
	return nil
}

// ServeMetrics writes the engine's own metrics (tailscaled_…) in Prometheus's text format; nothing before there
// is a backend.
func (n *Node) ServeMetrics(w http.ResponseWriter, r *http.Request) {
	if b := n.backendOrNil(); b != nil {
		b.sys.UserMetricsRegistry().Handler(w, r)
	}
}

// ServeMagicsock shows the state of the engine's sockets and paths.
func (n *Node) ServeMagicsock(w http.ResponseWriter, r *http.Request) {
	b := n.backendOrNil()
	if b == nil {
		http.Error(w, "the backend has not started yet", http.StatusServiceUnavailable)
		return
	}
	b.sys.MagicSock.Get().ServeHTTPDebug(w, r)
}
