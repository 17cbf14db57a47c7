package snapshot

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func serve(t *testing.T, p *Publisher) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: p.Handler()}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return socket
}

func TestGetAndWatch(t *testing.T) {
	var p Publisher
	socket := serve(t, &p)
	first := Snapshot{BackendState: "Starting", Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	second := Snapshot{BackendState: "Running", Ready: true, ExitNode: ExitNode{Wanted: "auto:any", ID: "n1"}}

	// The watch starts before there is a snapshot, and must wait for it.
	seen := make(chan Snapshot)
	done := make(chan error, 1)
	go func() {
		n := 0
		done <- Watch(t.Context(), socket, func(s Snapshot) bool { seen <- s; n++; return n < 2 })
	}()
	for _, want := range []Snapshot{first, second} {
		if err := p.Set(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, <-seen, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Error(diff)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
	got, err := Get(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestWatchEnds(t *testing.T) {
	var p Publisher
	if err := p.Set(Snapshot{}); err != nil {
		t.Fatal(err)
	}
	socket := serve(t, &p)
	ctx, cancel := context.WithCancel(t.Context())
	err := Watch(ctx, socket, func(Snapshot) bool { cancel(); return true })
	if err == nil {
		t.Error("Watch returned nil though its context ended")
	}
	if _, err := Get(t.Context(), socket+".absent"); err == nil {
		t.Error("Get of an absent socket succeeded")
	}
}
