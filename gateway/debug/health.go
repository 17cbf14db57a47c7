package debug

import (
	"net/http"
	"slices"
)

// askParts returns when the node, its engine and the dataplane have answered.
func (p *Pages) askParts() {
	p.o.Node.Snapshot()
	p.o.Node.ConfigStatus()
	p.o.Node.Status()
	p.o.Dataplane.Status()
}

// serveReady says whether members' packets reach the tailnet.
func (p *Pages) serveReady(w http.ResponseWriter, _ *http.Request) {
	ready, problems := p.readiness()
	p.site.WriteReady(w, ready, problems)
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
	return ready, problems
}
