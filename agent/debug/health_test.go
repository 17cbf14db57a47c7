package debug

import (
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/stitch"
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

// A part that is not asked may hang unseen.
func TestHealthAsksAll(t *testing.T) {
	part := reflect.TypeFor[Source]()
	for m := range part.Methods() {
		if m.Name == "Inspect" {
			continue // looks at the kernel, which a restart would not mend
		}
		synctest.Test(t, func(t *testing.T) {
			hold := make(chan struct{})
			defer close(hold)
			p := newPages(heldSource{emptySource(), m.Name, hold})
			w := pagetest.Get(t, p.Public(), "GET", "/healthz")
			if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the agent's parts do not answer one another; it must be restarted\n" {
				t.Errorf("%s: %d %q", m.Name, w.Code, w.Body)
			}
		})
	}
	// Not ready is no reason for a restart.
	if w := pagetest.Get(t, newPages(emptySource()).Public(), "GET", "/healthz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("an agent that waits for its API: %d %q", w.Code, w.Body)
	}
}

// heldSource does not answer when it is asked for one part.
type heldSource struct {
	Source
	part string
	hold chan struct{}
}

func (s heldSource) wait(part string) {
	if part == s.part {
		<-s.hold
	}
}

func (s heldSource) Report() stitch.Report {
	s.wait("Report")
	return s.Source.Report()
}

func (s heldSource) Install() install.Status {
	s.wait("Install")
	return s.Source.Install()
}

func (s heldSource) Attachments() ([]attachments.Attachment, attachments.Stats, []error) {
	s.wait("Attachments")
	return s.Source.Attachments()
}

func (s heldSource) ClusterCIDRs() []netip.Prefix {
	s.wait("ClusterCIDRs")
	return s.Source.ClusterCIDRs()
}

func (s heldSource) Gateways() []GatewayView {
	s.wait("Gateways")
	return s.Source.Gateways()
}

func (s heldSource) Pods() []PodView {
	s.wait("Pods")
	return s.Source.Pods()
}

func (s heldSource) Ready() error {
	s.wait("Ready")
	return s.Source.Ready()
}
