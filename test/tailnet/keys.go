package tailnet

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultKeyExpiry is Tailscale's own for auth keys.
const defaultKeyExpiry = 90 * 24 * time.Hour

// KeyOptions are what a new auth key allows.
type KeyOptions struct {
	// Tags become those of every node that logs in with the key. None: the node
	// belongs to the tailnet's one user.
	Tags []string
	// Reusable keys log in any number of nodes, others one.
	Reusable bool
	// Preauthorized is told back by the API. This tailnet asks no device approval.
	Preauthorized bool
	// Ephemeral nodes are removed when they log out.
	Ephemeral bool
	// Expiry is how long the key lasts; 0: 90 days. Negative: already expired.
	Expiry time.Duration
	// Description is told back by the API.
	Description string
}

// Key is an auth key.
type Key struct {
	KeyOptions
	// ID names the key in the API and in refusals; it is part of Secret.
	ID string
	// Secret is what a node logs in with.
	Secret string
	// Created and Expires bound its life; Revoked is zero until it is revoked.
	Created, Expires, Revoked time.Time
	// Uses counts the logins.
	Uses int
}

// Valid reports whether a node could log in with k now.
func (k Key) Valid() bool {
	return k.Revoked.IsZero() && time.Now().Before(k.Expires) && (k.Reusable || k.Uses == 0)
}

// CreateKey makes an auth key.
func (t *Tailnet) CreateKey(o KeyOptions) Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	life := o.Expiry
	if life == 0 {
		life = defaultKeyExpiry
	}
	o.Tags = slices.Sorted(slices.Values(o.Tags))
	now := time.Now()
	k := &Key{KeyOptions: o, ID: newID("k"), Created: now, Expires: now.Add(life)}
	k.Secret = "tskey-auth-" + k.ID + "-" + rand.Text()
	t.keys = append(t.keys, k)
	t.changedLocked()
	return *k
}

// RevokeKey ends the key with that ID and reports whether there was one. Nodes
// that it logged in stay.
func (t *Tailnet) RevokeKey(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.keys {
		if k.ID == id && k.Revoked.IsZero() {
			k.Revoked = time.Now()
			t.changedLocked()
			return true
		}
	}
	return false
}

// Keys returns all auth keys, revoked and expired ones too, oldest first.
func (t *Tailnet) Keys() []Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Key, 0, len(t.keys))
	for _, k := range t.keys {
		out = append(out, *k)
	}
	return out
}

// useKeyLocked spends one use of the key with that secret. The errors are the
// control plane's words: a key that is unknown, revoked or expired "does not
// exist", a spent one is "not valid" (tailscale/tailscale#9715, #17047).
func (t *Tailnet) useKeyLocked(secret string) (*Key, error) {
	for _, k := range t.keys {
		switch {
		case k.Secret != secret:
		case !k.Revoked.IsZero() || !time.Now().Before(k.Expires):
			return nil, fmt.Errorf("invalid key: API key does not exist")
		case !k.Valid():
			return nil, fmt.Errorf("invalid key: API key %s not valid", k.ID)
		default:
			k.Uses++
			return k, nil
		}
	}
	return nil, fmt.Errorf("invalid key: API key does not exist")
}

// newID makes an identifier in the control plane's manner, as in "kXq3ZT81CNTRL".
func newID(prefix string) string {
	return prefix + rand.Text()[:10] + "CNTRL"
}

// secretID returns the identifier inside a "tskey-<kind>-<id>-<secret>".
func secretID(secret string) string {
	if parts := strings.Split(secret, "-"); len(parts) == 4 {
		return parts[2]
	}
	return ""
}
