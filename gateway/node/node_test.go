package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"tailscale.com/net/tstun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/logger"
	"tailscale.com/types/netmap"
	"tailscale.com/wgengine/router"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

func TestAcceptedRoutes(t *testing.T) {
	p := netip.MustParsePrefix
	nm := &netmap.NetworkMap{Peers: []tailcfg.NodeView{
		(&tailcfg.Node{AllowedIPs: []netip.Prefix{p("100.64.0.3/32"), p("fd7a:115c:a1e0::3/128"), p("10.55.0.0/24"), p("0.0.0.0/0"), p("::/0")}}).View(),
		(&tailcfg.Node{AllowedIPs: []netip.Prefix{
			p("100.64.0.4/32"), p("10.55.0.0/24"), p("192.0.2.7/32"), p("2001:db8:7::/64"),
			p("fd7a:115c:a1e0:b1a:0:7:a37:0/120"), // 4via6: the ULA is every member's anyway
		}}).View(),
	}}
	want := []netip.Prefix{p("10.55.0.0/24"), p("192.0.2.7/32"), p("2001:db8:7::/64")}
	if diff := cmp.Diff(want, acceptedRoutes(nm), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

// unattached is a dataplane that remembers what is wanted, and does nothing.
func unattached(t *testing.T) *dataplane.Dataplane {
	t.Helper()
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	d, err := dataplane.New(dataplane.Options{NS: ns, TUN: "tg-none"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// The engine and the configuration change the intent side by side.
func TestLastIntentStays(t *testing.T) {
	d := unattached(t)
	n := New(Options{TUN: "tg-none", Dataplane: d})
	n.routed = true
	for i := range 20_000 {
		route := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		var changes sync.WaitGroup
		changes.Go(func() {
			_ = n.setRoutes(&router.Config{Routes: []netip.Prefix{route}})
		})
		changes.Go(func() {
			_ = n.setIntent(func(g *topology.Gateway) { g.NoExit = i%2 == 0 })
		})
		changes.Wait()
		if w := d.Status().Wanted; !slices.Contains(w.Routes, route) || w.NoExit != (i%2 == 0) {
			t.Fatalf("round %d: wanted are routes %v, and NoExit %v", i, w.Routes, w.NoExit)
		}
	}
}

// The engine may have news between a change and the loader's taking note of it.
func TestChangeIsNotUndone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	n := New(Options{Config: file, StateDir: dir, TUN: "tg-none", Dataplane: unattached(t), Logger: slog.New(slog.DiscardHandler)})
	b, err := newBackend(n.o, tstun.NewFake(), hooks{routes: n.setRoutes, nameservers: n.setNameservers, state: n.poke}, logger.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.shutdown)
	n.b = b
	write := func(exit string) {
		t.Helper()
		// Nobody listens at the discard port.
		text := fmt.Sprintf(`{"Version": "alpha0", "ServerURL": "http://127.0.0.1:9", "ExitNode": %q}`, exit)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("exit-a")
	n.loader.Reload(t.Context())
	if err := n.loader.Status().Err; err != nil {
		t.Fatal(err)
	}

	write("exit-b")
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.onConfig(t.Context(), config.Change{Config: c, ConfigChanged: true}); err != nil {
		t.Fatal(err)
	}
	n.change.Lock()
	n.followExitNode()
	n.change.Unlock()
	if r := n.exitApplied(); r.Wanted.String() != "exit-b" {
		t.Errorf("the exit node is %v again; exit-b is wanted", r.Wanted)
	}
}

func TestDiscoKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := discoKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := discoKey(dir)
	if err != nil || !first.Equal(second) {
		t.Errorf("the key changed, or could not be read: %v", err)
	}
	fi, err := os.Stat(filepath.Join(dir, "disco.key"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	if other, err := discoKey(t.TempDir()); err != nil || first.Equal(other) {
		t.Errorf("two nodes have one key: %v", err)
	}
}

func TestCheckState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	if err := checkState(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", fi.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkState(filepath.Join(file, "state")); err == nil {
		t.Error("a folder below a file was taken")
	}
}

func TestLockedLocalAPI(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		want         bool
	}{
		{http.MethodGet, "/localapi/v0/status", false},
		{http.MethodHead, "/localapi/v0/prefs", false},
		{http.MethodPost, "/localapi/v0/ping", false},
		{http.MethodPatch, "/localapi/v0/prefs", true},
		{http.MethodPost, "/localapi/v0/logout", true},
		{http.MethodPost, "/localapi/v0/start", true},
		{http.MethodDelete, "/localapi/v0/profiles/x", true},
	} {
		if got := changes(httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil)); got != tt.want {
			t.Errorf("changes(%s %s) = %v", tt.method, tt.path, got)
		}
	}
}

func TestDeletedDeviceIsNoticed(t *testing.T) {
	var l loginState
	l.mu.Lock() // as while the engine starts, which waits for the map poll whose last line this may be
	defer l.mu.Unlock()
	if l.notice([]any{"mapRoutine", 404, errors.New("PollNetMap: connection refused")}) || l.gone.Load() {
		t.Error("an ordinary failure was taken for a deletion")
	}
	// As controlclient.Auto.mapRoutine logs it.
	err := fmt.Errorf("PollNetMap: %w", fmt.Errorf("initial fetch failed %d: %.200s", 404, "node not found"))
	if !l.notice([]any{"mapRoutine", err}) || !l.gone.Load() {
		t.Errorf("not noticed: %v", err)
	}
}
