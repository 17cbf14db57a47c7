package node

import (
	"sync"
	"time"

	"tailscale.com/types/key"
	"tailscale.com/types/logger"
	"tailscale.com/wgengine"
)

const (
	// youth is how long an engine is in haste: what peers trust has ended by then.
	youth = 10 * time.Second
	// handshakePatience is how long a handshake may take meanwhile: more than the round trip to any peer.
	handshakePatience = time.Second
)

// haste gives up handshakes that peers do not answer soon, in an engine that is young. The next packet begins another.
//
// A gateway whose pod is replaced comes back at another address. Peers trust the path to the old one for up to 6.5 s
// (tailscale.com/wgengine/magicsock, trustUDPAddrDuration) and answer there; the handshake that is lost so would be repeated
// only after 5 s (RekeyTimeout of the WireGuard paper, section 6.1). Another disco key would have peers forget that path as
// soon as the control plane tells them of it, but they drop their sessions with it, also one that was made
// meanwhile, and the gateway does not notice for 15 s.
type haste struct {
	wgengine.Engine
	until time.Time
	logf  logger.Logf

	mu    sync.Mutex
	begun map[key.NodePublic]*time.Timer // by peers with a handshake
}

func newHaste(e wgengine.Engine, logf logger.Logf) *haste {
	return &haste{Engine: e, until: time.Now().Add(youth), logf: logf, begun: map[key.NodePublic]*time.Timer{}}
}

// SetPeerSessionStateFunc lets haste hear what fn hears.
func (h *haste) SetPeerSessionStateFunc(fn func(key.NodePublic, wgengine.PeerWireGuardState)) {
	h.Engine.SetPeerSessionStateFunc(func(peer key.NodePublic, state wgengine.PeerWireGuardState) {
		h.note(peer, state)
		if fn != nil {
			fn(peer, state)
		}
	})
}

// note is called with wireguard-go's locks held, and so leaves what there is to do to a timer.
func (h *haste) note(peer key.NodePublic, state wgengine.PeerWireGuardState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.begun[peer]; t != nil {
		t.Stop()
		delete(h.begun, peer)
	}
	if state == wgengine.PeerWireGuardStateHandshake && time.Now().Before(h.until) {
		h.begun[peer] = time.AfterFunc(handshakePatience, func() { h.giveUp(peer) })
	}
}

func (h *haste) giveUp(peer key.NodePublic) {
	// What was told of a peer may be of one that was given up before, and that still handles packets.
	if p, ok := h.PeerByKey(peer); !ok || !p.LastHandshake().IsZero() {
		return
	}
	h.logf("handshake with %s given up: no answer for %v", peer.ShortString(), handshakePatience)
	h.ResetDevicePeer(peer)
}
