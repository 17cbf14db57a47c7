package debug

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func TestReady(t *testing.T) {
	broken := dataplane.Status{Err: errors.New("no TUN")}
	for _, tt := range []struct {
		name     string
		snapshot snapshot.Snapshot
		kernel   dataplane.Status
		code     int
		text     string
	}{
		{"ready", snapshot.Snapshot{Ready: true, BackendState: "Running"}, dataplane.Status{}, 200, "ok\n"},
		{"ready with a problem", snapshot.Snapshot{Ready: true, Problems: []string{"DERP is away"}}, dataplane.Status{}, 200, "ok\n"},
		{"starting", snapshot.Snapshot{BackendState: "Starting"}, dataplane.Status{}, 503, "the gateway is not ready yet; Tailscale's state is Starting\n"},
		{"problems", snapshot.Snapshot{Problems: []string{"one\nand more", "two"}}, dataplane.Status{}, 503, "one and more\ntwo\n"},
		{"kernel, not yet in the snapshot", snapshot.Snapshot{Ready: true}, broken, 503, "the kernel is not as wanted: no TUN\n"},
		{
			"kernel, in the snapshot too", snapshot.Snapshot{Problems: []string{"two", "the kernel is not as wanted: no TUN"}}, broken,
			503, "two\nthe kernel is not as wanted: no TUN\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPages(&fakeNode{snapshot: tt.snapshot}, &fakePlane{status: tt.kernel})
			for _, h := range []http.Handler{p.Public(), p.Debug()} {
				w := pagetest.Get(t, h, "GET", "/readyz")
				if w.Code != tt.code || w.Body.String() != tt.text {
					t.Errorf("%d %q, want %d %q", w.Code, w.Body, tt.code, tt.text)
				}
			}
		})
	}
}

func TestHealth(t *testing.T) {
	n := emptyNode()
	p := newPages(n, &fakePlane{status: dataplane.Status{Err: errors.New("no TUN")}})
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		p.Public().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/healthz", nil))
		return w.Code
	}
	// Not ready is no reason for a restart.
	if got := ask(t.Context()); got != http.StatusOK {
		t.Errorf("a gateway that waits for its tailnet: %d", got)
	}
	n.hold = make(chan struct{})
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if got := ask(impatient); got != http.StatusServiceUnavailable {
		t.Errorf("a gateway that hangs: %d", got)
	}
	close(n.hold)
	if got := ask(t.Context()); got != http.StatusOK {
		t.Errorf("a gateway that hung for a while: %d", got)
	}
}

// A gateway that hangs answers by itself, before kubelet's second is over.
func TestHealthHasALimit(t *testing.T) {
	n := emptyNode()
	n.hold = make(chan struct{})
	defer close(n.hold)
	w := pagetest.Get(t, newPages(n, &fakePlane{}).Public(), "GET", "/healthz")
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
