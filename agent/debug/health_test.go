package debug

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
)

func TestReady(t *testing.T) {
	installed := install.Status{State: install.Ready, Reason: install.Installed, Message: "the plugin is in x"}
	for _, tt := range []struct {
		name    string
		ready   error
		install install.Status
		code    int
		text    string
	}{
		{"ready", nil, installed, 200, "ok\n"},
		{"not synced", errors.New("pods are not known yet"), installed, 503, "pods are not known yet\n"},
		{"not looked at", nil, install.Status{}, 503, "the CNI plugin is not installed yet\n"},
		{"unready", nil, install.Status{State: install.Unready, Reason: install.NotWritable, Message: "write\nx: read-only file system"}, 503, "write x: read-only file system\n"},
		{"waiting", nil, install.Status{State: install.Waiting, Reason: install.NoNetworkConfig, Message: "no CNI configuration yet"}, 503, "no CNI configuration yet\n"},
		{"without a message", nil, install.Status{State: install.Unready, Reason: install.Contended}, 503, "the CNI plugin is not installed: Contended\n"},
		{"both", errors.New("one"), install.Status{State: install.Waiting, Message: "two"}, 503, "one\ntwo\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPages(&fakeSource{ready: tt.ready, install: tt.install})
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
	s := emptySource()
	p := newPages(s)
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		p.Public().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/healthz", nil))
		return w.Code
	}
	// Not ready is no reason for a restart.
	if got := ask(t.Context()); got != http.StatusOK {
		t.Errorf("an agent that waits for its API: %d", got)
	}
	s.hold = make(chan struct{})
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if got := ask(impatient); got != http.StatusServiceUnavailable {
		t.Errorf("an agent that hangs: %d", got)
	}
	close(s.hold)
	if got := ask(t.Context()); got != http.StatusOK {
		t.Errorf("an agent that hung for a while: %d", got)
	}
}
