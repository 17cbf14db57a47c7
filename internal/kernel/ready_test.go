//go:build linux

package kernel_test

import (
	"errors"
	"testing"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

// TestAwaitReady keeps a link from being ready as a busy node's kernel does, but for as long as the test wants.
func TestAwaitReady(t *testing.T) {
	_, v6 := ident.MemberAddrs(1)
	route := v6.String() + " dev ts0 table local"
	b := newBed(t)
	reconcile(t, b.n, memberScope, member(1))
	run(t, b.gateway, "ip link set tg1 up")
	if err := b.n.AwaitReady(ident.MemberLink); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ns           *netns.Handle
		hinder, help string
	}{
		"no local route": {b.member, "ip -6 route del local " + route, "ip -6 route add local " + route},
		"no carrier":     {b.gateway, "ip link set tg1 down", "ip link set tg1 up"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, tt.ns, tt.hinder)
			ready := make(chan error)
			go func() { ready <- b.n.AwaitReady(ident.MemberLink) }()
			run(t, b.member, "ip link set ts0 alias other") // something else changes
			select {
			case err := <-ready:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			run(t, tt.ns, tt.help)
			if err := <-ready; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAwaitReadyWithoutLink(t *testing.T) {
	if err := open(t, nstest.New(t), nil).AwaitReady("none"); !errors.Is(err, kernel.ErrNoLink) {
		t.Errorf("%v, want %v", err, kernel.ErrNoLink)
	}
}
