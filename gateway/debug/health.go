package debug

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// probeLimit is how long the parts may take to answer a liveness probe: less than the second that kubelet
// waits by default, so that the log of the pod's events says what is wrong.
const probeLimit = 900 * time.Millisecond

// serveHealth says whether the process is of any use. What only the tailnet, the kernel or a person can
// mend is none of its concern: a restart would not help.
func (p *Pages) serveHealth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeLimit)
	defer cancel()
	if !p.alive(ctx) {
		p.writeText(w, http.StatusServiceUnavailable, "the gateway's parts do not answer one another; it must be restarted\n")
		return
	}
	p.writeText(w, http.StatusOK, "ok\n")
}

// alive reports whether the node, its engine and the dataplane answer before ctx ends, which
// they do unless somebody sits on their locks. However often it is asked, one question waits at a time.
func (p *Pages) alive(ctx context.Context) bool {
	p.mu.Lock()
	done := p.probe
	if done == nil {
		done = make(chan struct{})
		p.probe = done
		go func() {
			p.o.Node.Snapshot()
			p.o.Node.ConfigStatus()
			p.o.Node.Status()
			p.o.Dataplane.Status()
			p.mu.Lock()
			p.probe = nil
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

// serveReady says whether members' packets reach the tailnet.
func (p *Pages) serveReady(w http.ResponseWriter, _ *http.Request) {
	ready, problems := p.readiness()
	if ready {
		p.writeText(w, http.StatusOK, "ok\n")
		return
	}
	p.writeText(w, http.StatusServiceUnavailable, strings.Join(problems, "\n")+"\n")
}

// readiness returns whether the gateway carries traffic, and every problem as a sentence; one at least when it
// does not. The snapshot may be older than what the kernel's keeper last saw.
func (p *Pages) readiness() (ready bool, problems []string) {
	s, kernel := p.o.Node.Snapshot(), p.o.Dataplane.Status()
	problems = slices.Clone(s.Problems)
	if msg := kernel.Problem(); msg != "" && !slices.Contains(problems, msg) {
		problems = append([]string{msg}, problems...)
	}
	ready = s.Ready && kernel.Err == nil
	if !ready && len(problems) == 0 {
		problems = []string{"the gateway is not ready yet; Tailscale's state is " + s.BackendState}
	}
	for i, msg := range problems {
		problems[i] = strings.Join(strings.Fields(msg), " ") // one a line
	}
	return ready, problems
}
