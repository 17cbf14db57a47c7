//go:build linux

// Package magicdns holds the test of package stitch that needs a real gateway on a tailnet: a pod with nothing but its
// cluster's resolver in its resolv.conf looks up the tailnet's names. It is apart so that the other tests
// need not link all of Tailscale.
package magicdns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

func TestMain(m *testing.M) {
	peer.MaybeRun()
	os.Exit(m.Run())
}

const group = "payments"

// scene is a tailnet with one peer, a gateway and a pod of its group.
type scene struct {
	*testing.T
	ctx     context.Context
	rig     *rig.Rig
	gw      *rig.Gateway
	member  *rig.Member
	engine  *stitch.Engine
	changed chan struct{}
	peer    string // the peer's name
}

func newScene(t *testing.T) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // building takes long on a new machine
	t.Cleanup(cancel)
	s := &scene{T: t, ctx: ctx, changed: make(chan struct{}, 1)}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.rig, err = rig.New(ctx, rig.Options{Prefix: "tgstitch", Roles: []rig.Role{rig.Plain}})
	must()
	t.Cleanup(func() {
		if err := s.rig.Close(); err != nil {
			t.Error(err)
		}
	})
	s.gw, err = s.rig.AddGateway(ctx, rig.GatewayOptions{})
	must()
	s.member, err = s.rig.AddMember("member")
	must()
	s.peer = s.rig.Nodes[rig.Plain].Name + "." + s.rig.Tailnet.Domain()
	s.engine = stitch.New(stitch.Options{
		Logger: slog.New(slog.DiscardHandler),
		Changed: func(stitch.Status) {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		},
	})
	t.Cleanup(s.engine.Close)
	s.engine.SetClusterCIDRs(s.rig.ClusterCIDRs())
	s.engine.SetGroup(stitch.Group{Name: group, MagicDNS: true})
	s.engine.SetMember(stitch.Member{
		ID: "pod", Name: "default/pod", NetNS: stitch.NetNS{Path: s.member.Path()}, Group: group,
		Resolvers: []netip.Addr{s.rig.Cluster.V4, s.rig.Cluster.V6},
	})
	s.engine.Synced()
	return s
}

// start starts the gateway and tells the engine what it says.
func (s *scene) start() {
	s.Helper()
	if err := s.gw.Start(s.ctx); err != nil {
		s.Fatal(err)
	}
	snap, err := s.gw.WaitReady(s.ctx)
	if err == nil {
		err = s.gw.DualStackNames()
	}
	if err != nil {
		s.Fatalf("%v\n%s", err, s.gw.Log())
	}
	s.tell(&snap)
	st, err := s.engine.Wait(s.ctx, "pod")
	if err != nil || !st.Ready {
		s.Fatalf("%+v, %v", st, err)
	}
}

func (s *scene) tell(snap *snapshot.Snapshot) {
	s.engine.SetGateway(group, stitch.Gateway{NetNS: stitch.NetNS{Path: s.gw.Path()}, Snapshot: snap})
}

// names checks what the cluster's resolvers, over UDP and TCP, in both families, seem to answer.
func (s *scene) names(when string, want map[string]func(family int) (netip.Addr, bool)) {
	s.Helper()
	for name, known := range want {
		for _, server := range []netip.Addr{s.rig.Cluster.V4, s.rig.Cluster.V6} {
			for _, network := range []string{"udp", "tcp"} {
				for _, family := range []int{4, 6} {
					what := fmt.Sprintf("%s: %s for IPv%d, asking %v over %s", when, name, family, server, network)
					addr, ok := known(family)
					s.lookup(what, network, server, name, family, addr, ok)
				}
			}
		}
	}
}

// lookup wants name to be addr, or unknown when ok is false.
func (s *scene) lookup(what, network string, server netip.Addr, name string, family int, addr netip.Addr, ok bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	// A first answer may wait for a handshake: ask again as a stub resolver does.
	err := rig.Retry(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		got, err := rig.Lookup(ctx, s.member.Host, network, server, name, family)
		switch {
		case !ok && err == nil:
			return fmt.Errorf("it is %v and should not be known", got)
		case !ok && strings.Contains(err.Error(), "NameError"): // RFC 1035's NXDOMAIN
			return nil
		case err == nil && !slices.Equal(got, []netip.Addr{addr}):
			return fmt.Errorf("it is %v, not %v", got, addr)
		}
		return err
	})
	if err != nil {
		s.Errorf("%s: %v", what, err)
	}
}

// TestNames looks up names of the tailnet, of its split DNS, of the cluster and of the world, in a pod that knows
// the cluster's resolver only, and does so again when the gateway has gone and come back.
func TestNames(t *testing.T) {
	s := newScene(t)
	clusters := func(name string) func(int) (netip.Addr, bool) {
		return func(family int) (netip.Addr, bool) { return rig.Known(name, family), true }
	}
	nobodys := func(int) (netip.Addr, bool) { return netip.Addr{}, false }
	tailnets := func(family int) (netip.Addr, bool) { return s.rig.Nodes[rig.Plain].Tail(family), true }
	type names = map[string]func(int) (netip.Addr, bool)
	fallback := names{
		rig.ClusterName: clusters(rig.ClusterName), rig.OutsideName: clusters(rig.OutsideName), s.peer: nobodys, rig.CorpName: nobodys,
	}
	redirected := names{
		rig.ClusterName: clusters(rig.ClusterName), rig.OutsideName: clusters(rig.OutsideName), s.peer: tailnets, rig.CorpName: clusters(rig.CorpName),
	}
	s.names("before there is a gateway", fallback)
	s.start()
	s.names("with the gateway", redirected)
	before, err := s.engine.Inspect("pod")
	if err != nil || !before.InPlace() {
		t.Errorf("left to do: %+v, %v", before, err)
	}

	if err := s.gw.Kill(); err != nil {
		t.Fatal(err)
	}
	s.tell(&snapshot.Snapshot{BackendState: "NoState"})
	for s.engine.Snapshot().Members[0].Ready {
		select {
		case <-s.changed:
		case <-s.ctx.Done():
			t.Fatal("the engine does not hear that the gateway is not ready")
		}
	}
	s.names("with the gateway's process dead", fallback)
	s.start()
	s.names("with the gateway back", redirected)

	s.engine.RemoveMember("pod")
	for len(s.engine.Snapshot().Members) > 0 {
		select {
		case <-s.changed:
		case <-s.ctx.Done():
			t.Fatal("the member is not forgotten")
		}
	}
	s.names("after the pod has left", fallback)
}
