package tailnet

import (
	"context"
	"net/http"
)

// Freeze makes the control plane accept connections and answer nothing: open
// map streams get no more messages, not even keep-alives, and new requests hang
// until [Tailnet.Thaw]. The API, DERP and STUN are not affected.
func (t *Tailnet) Freeze() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.thawed:
		t.thawed = make(chan struct{})
	default:
	}
}

// Thaw ends [Tailnet.Freeze]; what changed meanwhile is sent.
func (t *Tailnet) Thaw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.thawed:
	default:
		close(t.thawed)
	}
}

// Refuse answers every control request with that HTTP status, and ends open map
// streams so that nodes ask again. 0 serves again.
func (t *Tailnet) Refuse(code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refuse == 0 && code != 0 {
		close(t.refused)
	}
	if t.refuse != 0 && code == 0 {
		t.refused = make(chan struct{})
	}
	t.refuse = code
}

// waitThawed blocks while the control plane is frozen, and reports whether it
// is served rather than refused. The channel is closed when that ends.
func (t *Tailnet) waitThawed(ctx context.Context) (refused <-chan struct{}, code int, err error) {
	for {
		t.mu.Lock()
		thawed, refused, code := t.thawed, t.refused, t.refuse
		t.mu.Unlock()
		select {
		case <-thawed:
			return refused, code, nil
		default:
		}
		select {
		case <-thawed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// gate applies Freeze and Refuse to h.
func (t *Tailnet) gate(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, code, err := t.waitThawed(r.Context())
		switch {
		case err != nil:
			panic(http.ErrAbortHandler)
		case code != 0:
			http.Error(w, "refused on demand", code)
		default:
			h.ServeHTTP(w, r)
		}
	})
}
