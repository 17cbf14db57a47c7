//go:build linux

package rig

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tailscale.com/client/local"

	"github.com/rajsinghtech/tailgate/gateway/node"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// movedLimit is how soon after a gateway is back at another address a member's new connections work: before WireGuard by itself
// repeats a handshake, which it does after 5 s.
const movedLimit = 4 * time.Second

// TestMovedGateway gives a gateway's state to a process at another address, as when its pod is replaced. Peers trust the path to
// the old address for seconds, and answer there.
func TestMovedGateway(t *testing.T) {
	ctx, r, m := withMember(t, "tgmove")
	from, err := r.AddGateway(ctx, GatewayOptions{Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	reach := func(gw *Gateway) time.Duration {
		t.Helper()
		if err := m.Join(gw, r.Spec("member", false)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, to := range []netip.Addr{r.Nodes[Plain].Tail4, r.Nodes[Plain].Tail6} {
			if err := Retry(ctx, func(ctx context.Context) error { return Echo(ctx, m.Host, "tcp", to) }); err != nil {
				t.Fatalf("%v\n%s", err, gw.Log())
			}
		}
		return time.Since(start)
	}
	if err := from.Start(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := from.WaitReady(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, from.Log())
	}
	reach(from)
	ping, err := StartPing(ctx, m.Host, r.Nodes[Plain].Tail4, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Stop()
	for _, name := range []string{"second", "third", "fourth"} {
		to, err := r.AddGateway(ctx, GatewayOptions{Name: name, StateDir: from.StateDir(), Args: []string{"--hostname", "first"}})
		if err != nil {
			t.Fatal(err)
		}
		awaitDirect(ctx, t, from, ping, r.Nodes[Plain].Tail4)
		if err := from.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := m.Leave(); err != nil {
			t.Fatal(err)
		}
		if err := to.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := to.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return s.Ready && s.DeviceID == before.DeviceID }); err != nil {
			t.Fatalf("%v\n%s", err, to.Log())
		}
		took := reach(to)
		t.Logf("new connections %v after the %s gateway was ready", took.Round(time.Millisecond), name)
		if took > movedLimit {
			t.Errorf("new connections took %v from the gateway's return, want %v\n%s", took, movedLimit, to.Log())
		}
		from = to
	}
}

// TestLateHandshake lets a peer answer a gateway's first handshakes late, while packets for it wait. The session that is made at last stays.
func TestLateHandshake(t *testing.T) {
	ctx, r, m := withMember(t, "tglate")
	gw, err := r.AddGateway(ctx, GatewayOptions{Name: "gateway"})
	if err != nil {
		t.Fatal(err)
	}
	startAndJoin(ctx, t, gw, m)
	load, err := StartLoad(ctx, m.Host, r.Nodes[Plain])
	defer load.Stop()
	if err != nil {
		t.Fatal(err)
	}
	// Packets are under way whenever something happens, but not more than a busy machine carries.
	ping, err := StartPing(ctx, m.Host, r.Nodes[Plain].Tail4, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Stop()
	const givenUp = "given up: no answer"
	peer := r.Nodes[Plain].proc.PID()
	if err := errors.Join(gw.Kill(), unix.Kill(peer, unix.SIGSTOP)); err != nil {
		t.Fatal(err)
	}
	mark := gw.LogEnd()
	err = gw.Start(ctx)
	if err == nil {
		_, err = gw.WaitLog(ctx, mark, givenUp)
	}
	if err := errors.Join(err, unix.Kill(peer, unix.SIGCONT)); err != nil {
		t.Fatalf("%v\n%s", err, gw.Log())
	}
	if err := load.WaitAll(ctx); err != nil {
		t.Fatalf("%v\n%s", err, gw.Log())
	}
	mark = gw.LogEnd()
	late, cancel := context.WithTimeout(ctx, 5*time.Second) // one that was given up wrongly is followed by the next each second
	defer cancel()
	if line, err := gw.WaitLog(late, mark, givenUp); err == nil {
		t.Errorf("a session that works was ended: %s", line)
	}
}

// pathLimit is how soon a gateway that has just started has a direct path from when there is one: before the engine by itself looks
// again, which it does after 5 s.
const pathLimit = 2 * time.Second

// TestLatePath lets nothing of a peer reach a gateway directly when that starts. Packets go by the DERP server, and directly
// soon after they can.
func TestLatePath(t *testing.T) {
	ctx, r, m := withMember(t, "tgpath")
	gw, err := r.AddGateway(ctx, GatewayOptions{Name: "gateway"})
	if err != nil {
		t.Fatal(err)
	}
	nft, err := ruleset.Open(gw.Handle().FD())
	if err != nil {
		t.Fatal(err)
	}
	defer nft.Close()
	const blocked = "blocked"
	if _, err := nft.Apply(ruleset.Table{Name: blocked, Chains: []ruleset.Chain{{
		Name: "peer", Type: ruleset.TypeFilter, Hook: ruleset.HookPrerouting, Priority: ruleset.PriorityRaw, Policy: ruleset.PolicyAccept,
		Rules: []ruleset.Rule{{Matches: []ruleset.Match{ruleset.SrcIn(netip.PrefixFrom(r.Nodes[Plain].V4, 32))}, Action: ruleset.Drop()}},
	}}}); err != nil {
		t.Fatal(err)
	}
	startAndJoin(ctx, t, gw, m)
	ping, err := StartPing(ctx, m.Host, r.Nodes[Plain].Tail4, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer ping.Stop()
	if err := ping.WaitAnswer(ctx); err != nil {
		t.Fatalf("by the DERP server: %v\n%s", err, gw.Log())
	}
	if err := nft.Delete(blocked); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	awaitDirect(ctx, t, gw, ping, r.Nodes[Plain].Tail4)
	if took := time.Since(start); took > pathLimit {
		t.Errorf("the direct path took %v from when there was one, want %v\n%s", took, pathLimit, gw.Log())
	} else {
		t.Logf("the direct path took %v", took.Round(time.Millisecond))
	}
}

// startAndJoin starts a gateway, and makes m its member when it is ready.
func startAndJoin(ctx context.Context, t *testing.T, gw *Gateway, m *Member) {
	t.Helper()
	if err := gw.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.WaitReady(ctx); err != nil {
		t.Fatalf("%v\n%s", err, gw.Log())
	}
	if err := m.Join(gw, gw.r.Spec("member", false)); err != nil {
		t.Fatal(err)
	}
}

// withMember makes a rig with one peer, and with a member that has not joined yet. The context leaves time for the first build of the gateway.
func withMember(t *testing.T, prefix string, more ...Role) (context.Context, *Rig, *Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	r, err := New(ctx, Options{Prefix: prefix, Roles: append(more, Plain), Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := r.AddMember("member")
	if err != nil {
		t.Fatal(err)
	}
	return ctx, r, m
}

// awaitDirect waits until the gateway and the peer have found the way to each other that needs no relay.
func awaitDirect(ctx context.Context, t *testing.T, gw *Gateway, ping *Pinger, to netip.Addr) {
	t.Helper()
	c := &local.Client{Socket: gw.Socket(node.LocalAPISocket), UseSocketOnly: true}
	for {
		if err := ping.WaitAnswer(ctx); err != nil {
			t.Fatal(err)
		}
		st, err := c.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Peer {
			if p.CurAddr != "" && slices.Contains(p.TailscaleIPs, to) {
				return
			}
		}
	}
}
