package node

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"

	"tailscale.com/ipn"
	"tailscale.com/tailcfg"
)

// loginState remembers which auth key was tried, so that a refused one is not offered again.
type loginState struct {
	mu    sync.Mutex
	tried [sha256.Size]byte
	fresh bool   // a key is being tried, or was
	err   string // why there is no login: a sentence
	// lost is the device that the control plane does not know any more, until the node is another; "": none. The engine stays
	// Running meanwhile, with the netmap that it had, also when the key with which it registers anew is refused.
	lost tailcfg.StableNodeID

	// What the engine tells from within is not under mu, which is held while the engine starts: that waits for the map poll
	// before it to end, and the poll for its last line to be logged.

	// gone: the control plane said that it does not know the node.
	gone atomic.Bool
	// asked: the control plane wants somebody to log in. If the engine believes that it is logged in, the device was
	// deleted while the gateway was away: the engine starts from the netmap that it kept, offers its node key,
	// gets the address of a login page, and stays Running.
	asked atomic.Bool
}

// notFound is in the error with which the engine's map poll ends, and is tried again for ever, when the
// device was deleted from the tailnet (controlclient.Direct.sendMapRequest). The engine tells it to its
// log only: its state stays Running, with a netmap that nobody updates.
const notFound = "initial fetch failed 404"

// notice looks for notFound among what the engine logs.
func (l *loginState) notice(args []any) (found bool) {
	for _, a := range args {
		err, ok := a.(error)
		if !ok || !strings.Contains(err.Error(), notFound) {
			continue
		}
		l.gone.Store(true)
		return true
	}
	return false
}

// without is whether the node has no login: the engine says so, or it goes on as a device that is lost.
func (l *loginState) without(state ipn.State, self tailcfg.StableNodeID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return state == ipn.NeedsLogin || l.lost != "" && l.lost == self
}

// retry lets loginIfNeeded look at the auth key again.
func (l *loginState) retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = ""
}

// problem returns why the node is not logged in; "" when it is, or is trying.
func (l *loginState) problem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// loginIfNeeded logs in with the configured auth key when the backend asks for a login (at the
// first start, and when the node key expired), and when the device was deleted. The caller holds n.change.
func (n *Node) loginIfNeeded(ctx context.Context) {
	l := &n.login
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg, state, self := n.inForce, n.b.State(), n.b.device()
	if l.asked.Swap(false) && state >= ipn.Starting {
		l.gone.Store(true)
	}
	switch {
	case cfg == nil || !cfg.Prefs.WantRunning:
		return
	case l.gone.Swap(false):
		n.log.Warn("the tailnet does not know this device any more; registering it anew")
		l.fresh = false // the key was good once, so it may be tried again
		l.lost = self
	case state != ipn.NeedsLogin && (l.lost == "" || l.lost != self):
		l.lost = ""
		if state >= ipn.Starting {
			l.fresh, l.err = false, ""
			n.bus.clearError()
		}
		return
	}
	key, err := cfg.ReadAuthKey()
	if err != nil {
		l.fail(n, err.Error())
		return
	}
	hash := sha256.Sum256([]byte(key))
	if l.fresh && hash == l.tried {
		return // the control client retries by itself; a refusal is on the bus
	}
	l.tried, l.fresh, l.err = hash, true, ""
	n.bus.clearError()
	n.log.Info("logging in with the auth key")
	if err := n.b.login(ctx, key); err != nil {
		l.fail(n, err.Error())
		l.fresh = false
	}
}

// fail says a problem once.
func (l *loginState) fail(n *Node, msg string) {
	if l.err != msg {
		l.err = msg
		n.log.Error("cannot log in", "err", msg)
	}
}
