package node

import (
	"sync"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/magicsock"
)

const (
	// youth is how long an engine is in haste: what peers trust has ended by then.
	youth = 10 * time.Second
	// handshakePatience is how long a handshake may take meanwhile: more than the round trip to any peer.
	handshakePatience = time.Second
	// pathPatience is how long after a peer's first handshake the direct path to it is sought again; each further time it is twice as long.
	pathPatience = 250 * time.Millisecond
)

// haste has an engine that is young not wait as long as one that has its sessions and paths: it gives up handshakes that peers do not
// answer soon (the next packet begins another), and seeks direct paths again.
//
// A gateway whose pod is replaced comes back at another address. Peers trust the path to the old one for up to 6.5 s
// (tailscale.com/wgengine/magicsock, trustUDPAddrDuration) and answer there; the handshake that is lost so would be repeated
// only after 5 s (RekeyTimeout of the WireGuard paper, section 6.1). Another disco key would have peers forget that path as
// soon as the control plane tells them of it, but they drop their sessions with it, also one that was made
// meanwhile, and the gateway does not notice for 15 s.
//
// The engine seeks a direct path with the first packet to a peer, and then every 5 s (discoPingInterval in
// tailscale.com/wgengine/magicsock). When what it sends first is lost, packets go by a DERP server until then, whose queues (32 packets
// a client, defaultPerClientSendQueueDepth in tailscale.com/derp/derpserver) are too short for what members send.
type haste struct {
	wgengine.Engine
	sock  *magicsock.Conn
	until time.Time
	logf  logger.Logf

	mu     sync.Mutex
	begun  map[key.NodePublic]*time.Timer // by peers with a handshake
	direct map[key.NodePublic]bool        // by peers whose path is sought: whether it was found
}

func newHaste(e wgengine.Engine, sock *magicsock.Conn, logf logger.Logf) *haste {
	return &haste{
		Engine: e, sock: sock, until: time.Now().Add(youth), logf: logf,
		begun: map[key.NodePublic]*time.Timer{}, direct: map[key.NodePublic]bool{},
	}
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
	if state == wgengine.PeerWireGuardStateNone || !time.Now().Before(h.until) {
		return
	}
	if state == wgengine.PeerWireGuardStateHandshake {
		h.begun[peer] = time.AfterFunc(handshakePatience, func() { h.giveUp(peer) })
	}
	if _, ok := h.direct[peer]; !ok {
		h.direct[peer] = false
		time.AfterFunc(pathPatience, func() { h.seek(peer, pathPatience) })
	}
}

// seek pings all addresses of a peer, as "tailscale ping" does, until one has answered before the DERP server did.
func (h *haste) seek(peer key.NodePublic, patience time.Duration) {
	h.mu.Lock()
	found := h.direct[peer]
	h.mu.Unlock()
	if found || !time.Now().Before(h.until) {
		return
	}
	node := &tailcfg.Node{Key: peer, Name: peer.ShortString()} // the socket knows the rest; without a name it would look into Hostinfo
	h.sock.Ping(node.View(), new(ipnstate.PingResult), 0, func(r *ipnstate.PingResult) {
		if r.Endpoint != "" {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.direct[peer] = true
		}
	})
	time.AfterFunc(2*patience, func() { h.seek(peer, 2*patience) })
}

func (h *haste) giveUp(peer key.NodePublic) {
	// What was told of a peer may be of one that was given up before, and that still handles packets.
	if p, ok := h.PeerByKey(peer); !ok || !p.LastHandshake().IsZero() {
		return
	}
	h.logf("handshake with %s given up: no answer for %v", peer.ShortString(), handshakePatience)
	h.ResetDevicePeer(peer)
}
