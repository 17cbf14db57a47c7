package page

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// probeLimit is how long the parts may take to answer a liveness probe: less than the second that kubelet
// waits by default, so that the log of the pod's events says what is wrong.
const probeLimit = 900 * time.Millisecond

// Health answers a liveness probe: whether the process is of any use. ask is to take all locks that its parts need, and
// nothing else: what only others or a person can mend is none of the probe's concern, for a restart would
// not help. When ask does not come back in time, the answer is what dead says.
func (s *Site) Health(ask func(), dead string) http.HandlerFunc {
	p := probe{ask: ask}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), probeLimit)
		defer cancel()
		if !p.alive(ctx) {
			s.WriteText(w, http.StatusServiceUnavailable, dead+"\n")
			return
		}
		s.WriteText(w, http.StatusOK, "ok\n")
	}
}

// probe asks a process's parts whether they answer.
type probe struct {
	ask func()

	mu    sync.Mutex
	asked chan struct{} // closed when the parts have answered; nil: nobody asks them now
}

// alive reports whether the parts answer before ctx ends, which they do unless somebody sits on their locks. However often it
// is asked, one question waits at a time.
func (p *probe) alive(ctx context.Context) bool {
	p.mu.Lock()
	done := p.asked
	if done == nil {
		done = make(chan struct{})
		p.asked = done
		go func() {
			p.ask()
			p.mu.Lock()
			p.asked = nil
			p.mu.Unlock()
			close(done)
		}()
	}
	p.mu.Unlock()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// WriteReady answers a readiness probe. Each problem becomes a line.
func (s *Site) WriteReady(w http.ResponseWriter, ready bool, problems []string) {
	if ready {
		s.WriteText(w, http.StatusOK, "ok\n")
		return
	}
	s.WriteText(w, http.StatusServiceUnavailable, strings.Join(Each(problems, OneLine), "\n")+"\n")
}

// ReadOnly lets GET and HEAD pass.
func ReadOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page can only be read: use GET", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	})
}
