package node

import (
	"context"
	"crypto/sha256"
	"sync"

	"tailscale.com/ipn"
)

// loginState remembers which auth key was tried, so that a refused one is not offered again.
type loginState struct {
	mu    sync.Mutex
	tried [sha256.Size]byte
	fresh bool   // a key is being tried, or was
	err   string // why there is no login: a sentence
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

// loginIfNeeded logs in with the configured auth key when the backend asks for a login: at the
// first start, when the node key expired, and when the device was deleted.
func (n *Node) loginIfNeeded(ctx context.Context) {
	l := &n.login
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg := n.loader.Current()
	if cfg == nil || n.b.State() != ipn.NeedsLogin || !cfg.Prefs.WantRunning {
		if n.b.State() >= ipn.Starting {
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
