//go:build linux

package rig

import (
	"context"
	"errors"
	"testing"

	"tailscale.com/ipn"
	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

func TestMain(m *testing.M) {
	peer.MaybeRun()
	m.Run()
}

// TestIdentityIsRenewed takes a running gateway's place in the tailnet from it: by deleting its device, as an
// administrator may, and by letting its key expire. Both times it comes back with its auth key and nobody's help.
func TestIdentityIsRenewed(t *testing.T) {
	ctx, r, m := withMember(t, "tgid")
	key := r.Tailnet.CreateKey(tailnet.KeyOptions{Tags: []string{Tag}, Reusable: true, Preauthorized: true})
	gw, err := r.AddGateway(ctx, GatewayOptions{Name: "gateway", AuthKey: key.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := gw.Start(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := gw.WaitReady(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, gw.Log())
	}
	if err := m.Join(gw, r.Spec("member", false)); err != nil {
		t.Fatal(err)
	}
	reaches := func() {
		t.Helper()
		if err := Retry(ctx, func(ctx context.Context) error {
			return Echo(ctx, m.Host, "tcp", r.Nodes[Plain].Tail4)
		}); err != nil {
			t.Errorf("%v\n%s", err, gw.Log())
		}
	}
	reaches()

	if !r.Tailnet.DeleteNode(tailcfg.StableNodeID(before.DeviceID)) {
		t.Fatalf("no device %s", before.DeviceID)
	}
	deleted, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		return s.Ready && s.DeviceID != "" && s.DeviceID != before.DeviceID
	})
	if err != nil {
		t.Fatalf("after its device was deleted: %v\n%s", err, gw.Log())
	}
	reaches()

	if !r.Tailnet.ExpireNode(tailcfg.StableNodeID(deleted.DeviceID)) {
		t.Fatalf("no device %s", deleted.DeviceID)
	}
	expired, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		return s.Ready && s.BackendState == ipn.Running.String() && s.NodeKey != deleted.NodeKey
	})
	if err != nil {
		t.Fatalf("after its key expired: %v\n%s", err, gw.Log())
	}
	reaches()
	if expired.DeviceID != deleted.DeviceID {
		t.Errorf("a new key made a new device: %s, then %s", deleted.DeviceID, expired.DeviceID)
	}

	// Deleted while it is away, as when the last member leaves a node and another comes later: it starts from
	// the netmap that it kept.
	if err := gw.Stop(); err != nil {
		t.Fatal(err)
	}
	if !r.Tailnet.DeleteNode(tailcfg.StableNodeID(expired.DeviceID)) {
		t.Fatalf("no device %s", expired.DeviceID)
	}
	if err := gw.Start(ctx); err != nil {
		t.Fatal(err)
	}
	named := false
	if _, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		named = named || s.DeviceID == expired.DeviceID
		return s.Ready && s.DeviceID != "" && s.DeviceID != expired.DeviceID
	}); err != nil || named {
		t.Fatalf("after its device was deleted while it was away; it still named that: %v; %v\n%s", named, err, gw.Log())
	}
	reaches()

	// Deleted when the key that it has is good no more: it says so, and takes the next one.
	again, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return s.Ready && s.DeviceID != "" })
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range r.Tailnet.Keys() {
		r.Tailnet.RevokeKey(k.ID)
	}
	if !r.Tailnet.DeleteNode(tailcfg.StableNodeID(again.DeviceID)) {
		t.Fatalf("no device %s", again.DeviceID)
	}
	if _, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return s.AuthKeyRefused && !s.Ready }); err != nil {
		t.Fatalf("after its device was deleted and its key revoked: %v\n%s", err, gw.Log())
	}
	next := r.Tailnet.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{Tag}})
	if err := gw.SetAuthKey(next.Secret); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		return s.Ready && !s.AuthKeyRefused && s.DeviceID != "" && s.DeviceID != again.DeviceID
	}); err != nil {
		t.Fatalf("after it got another key: %v\n%s", err, gw.Log())
	}
	reaches()
	if err := errors.Join(gw.Stop(), m.Leave()); err != nil {
		t.Error(err)
	}
}
