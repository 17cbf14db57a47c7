package page

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	s := testSite()
	s.Filter = func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("secret"), []byte("…")) }
	for _, tt := range []struct {
		name, contentType, text string
		write                   func(http.ResponseWriter)
	}{
		{"text", "text/plain; charset=utf-8", "a …\n", func(w http.ResponseWriter) { s.WriteText(w, 404, "a secret\n") }},
		{"JSON", "application/json", "[\n  \"…\"\n]\n", func(w http.ResponseWriter) { s.WriteJSON(w, 404, []string{"secret"}) }},
		{"page", "text/html; charset=utf-8", "", func(w http.ResponseWriter) { s.WritePage(w, 404, "x", "", "secret") }},
	} {
		w := httptest.NewRecorder()
		tt.write(w)
		want := http.Header{"Content-Type": {tt.contentType}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
		if d := cmp.Diff(want, w.Header()); d != "" || w.Code != 404 {
			t.Errorf("%s: %d, header (-want +got):\n%s", tt.name, w.Code, d)
		}
		if tt.text != "" && w.Body.String() != tt.text || bytes.Contains(w.Body.Bytes(), []byte("secret")) {
			t.Errorf("%s: %q", tt.name, w.Body)
		}
	}
	w := httptest.NewRecorder()
	if s.WriteJSON(w, http.StatusOK, func() {}); w.Code != http.StatusInternalServerError {
		t.Errorf("what is no JSON: %d %s", w.Code, w.Body)
	}
}

func TestWriteReady(t *testing.T) {
	s := testSite()
	w := httptest.NewRecorder()
	s.WriteReady(w, true, []string{"a problem that does not matter"})
	if w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("ready: %d %q", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	s.WriteReady(w, false, []string{"one\nand more", "two"})
	if w.Code != 503 || w.Body.String() != "one and more\ntwo\n" {
		t.Errorf("not ready: %d %q", w.Code, w.Body)
	}
}

// However often a process that hangs is probed, one question waits.
func TestProbe(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 3)
	p := probe{ask: func() {
		asked <- struct{}{}
		<-hold
	}}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	var waiting [2]chan struct{}
	for i := range waiting {
		if p.alive(impatient) {
			t.Error("a process that hangs is alive")
		}
		p.mu.Lock()
		waiting[i] = p.asked
		p.mu.Unlock()
	}
	if waiting[0] == nil || waiting[0] != waiting[1] {
		t.Fatal("two probes of a process that hangs wait for different answers")
	}
	close(hold)
	<-waiting[0]
	if !p.alive(t.Context()) {
		t.Error("a process that hung for a while is dead")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked != nil {
		t.Error("the next probe would take the last one's answer")
	}
	if len(asked) != 2 {
		t.Errorf("asked %d times, want 2", len(asked))
	}
}

// A process that hangs is answered for before kubelet's second is over.
func TestHealthHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		defer close(hold)
		w, began := httptest.NewRecorder(), time.Now()
		testSite().Health(func() { <-hold }, "it hangs")(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != "it hangs\n" || time.Since(began) >= time.Second {
			t.Errorf("%d %q after %v", w.Code, w.Body, time.Since(began))
		}
	})
}
