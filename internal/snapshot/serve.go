package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// Publisher holds the newest snapshot and serves it:
//
//	GET /snapshot   the newest, as one JSON object
//	GET /watch      the newest and then each newer one, a JSON object a line
//
// The zero value is ready, and its first readers wait for the first Set.
type Publisher struct {
	mu      sync.Mutex
	data    []byte
	changed chan struct{}
}

// Set makes s the newest snapshot.
func (p *Publisher) Set(s Snapshot) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = append(data, '\n')
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
	return nil
}

// next returns the newest snapshot and a channel that closes when there is a newer one.
func (p *Publisher) next() ([]byte, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.data, p.changed
}

// Handler serves the two paths.
func (p *Publisher) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /snapshot", func(w http.ResponseWriter, r *http.Request) { p.stream(w, r, 1) })
	mux.HandleFunc("GET /watch", func(w http.ResponseWriter, r *http.Request) { p.stream(w, r, -1) })
	return mux
}

// stream writes n snapshots, or until the reader goes when n is negative.
func (p *Publisher) stream(w http.ResponseWriter, r *http.Request, n int) {
	w.Header().Set("Content-Type", "application/json")
	rc := http.NewResponseController(w)
	for n != 0 {
		data, changed := p.next()
		if data != nil {
			if _, err := w.Write(data); err != nil {
				return // the reader has gone
			}
			if err := rc.Flush(); err != nil {
				return
			}
			n--
		}
		if n == 0 {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// Get fetches the newest snapshot from the gateway's socket.
func Get(ctx context.Context, socket string) (Snapshot, error) {
	var got Snapshot
	err := fetch(ctx, socket, "/snapshot", func(s Snapshot) bool { got = s; return false })
	return got, err
}

// Watch calls fn with the newest snapshot and with each newer one until fn returns
// false (then nil), the gateway goes away or ctx ends (then an error).
func Watch(ctx context.Context, socket string, fn func(Snapshot) bool) error {
	return fetch(ctx, socket, "/watch", fn)
}

func fetch(ctx context.Context, socket, path string, fn func(Snapshot) bool) error {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway"+path, nil)
	if err != nil {
		return fmt.Errorf("ask gateway at %s: %w", socket, err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask gateway at %s: %w", socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask gateway at %s for %s: it answered %s", socket, path, resp.Status)
	}
	for dec := json.NewDecoder(resp.Body); ; {
		var s Snapshot
		if err := dec.Decode(&s); err != nil {
			return fmt.Errorf("read snapshot from %s: %w", socket, err)
		}
		if !fn(s) {
			return nil
		}
	}
}
