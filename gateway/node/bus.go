package node

import (
	"context"
	"sync"

	"tailscale.com/ipn"
)

// busState is what the engine said on its notification bus and keeps nowhere to be asked for.
type busState struct {
	mu  sync.Mutex
	err string // the newest critical error, such as a refused auth key
}

func (s *busState) set(msg string) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = s.err != msg
	s.err = msg
	return changed
}

func (s *busState) clearError() { s.set("") }

func (s *busState) lastError() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watchBus wakes the loop at whatever the engine says. The bus carries changes only, and in
// this version not all of them (a peer that goes in a full netmap), so the loop looks at the engine itself;
// the router's Set wakes it for those.
func (n *Node) watchBus(ctx context.Context) {
	const mask = ipn.NotifyInitialState | ipn.NotifyInitialHealthState | ipn.NotifyPeerChanges
	n.b.WatchNotifications(ctx, mask, nil, func(m *ipn.Notify) bool {
		if m.ErrMessage != nil && n.bus.set(*m.ErrMessage) {
			n.log.Error("the tailnet refused", "err", *m.ErrMessage)
		}
		if m.BrowseToURL != nil && *m.BrowseToURL != "" {
			n.login.asked.Store(true)
		}
		if m.State != nil {
			n.log.Info("backend", "state", m.State.String())
		}
		n.poke()
		return true
	})
}
