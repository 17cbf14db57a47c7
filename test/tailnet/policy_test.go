package tailnet_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"tailscale.com/client/local"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/types/key"
	"tailscale.com/types/views"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

func TestGrantsAllowAndDeny(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	server := l.tn.CreateKey(tailnet.KeyOptions{Tags: []string{"tag:server"}})
	_, pb := l.node("b", peer.Config{AuthKey: server.Secret})
	a, pa := l.node("a", peer.Config{})
	c, _ := l.node("c", peer.Config{})
	l.allowed(a, pb.V4, pa.V4.String()+" via=b")

	grants := []tailnet.Grant{{Src: []string{"a"}, Dst: []string{"tag:server"}, IP: []string{"tcp:80", "udp:7"}}}
	if err := l.tn.SetGrants(grants); err != nil {
		t.Fatal(err)
	}
	l.denied(a, netip.AddrPortFrom(pb.V4, 443))
	l.denied(c, netip.AddrPortFrom(pb.V4, 80))
	l.allowed(a, pb.V6, pa.V6.String()+" via=b")
	if err := echo(l.ctx, a, "udp", pb.V4); err != nil {
		t.Errorf("UDP, which is granted: %v", err)
	}
	// b may not open connections to a, only answer.
	b := l.w.Host("b")
	l.denied(b, netip.AddrPortFrom(pa.V4, 80))

	if err := l.tn.SetGrants(nil); err != nil {
		t.Fatal(err)
	}
	l.denied(a, netip.AddrPortFrom(pb.V4, 80))
}

func TestPeersArePruned(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	path, lc := socket(t)
	l.node("a", peer.Config{Socket: path})
	l.node("b", peer.Config{})
	l.node("c", peer.Config{})
	peers := func() map[string]bool {
		st, err := lc.Status(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, p := range st.Peer {
			out[p.HostName] = p.Online
		}
		return out
	}
	want := func(names ...string) func(context.Context) error {
		return func(context.Context) error { return sameSet(peers(), names) }
	}
	l.until("a sees b and c", want("b", "c"))
	if err := l.tn.SetGrants([]tailnet.Grant{{Src: []string{"c"}, Dst: []string{"a"}, IP: []string{"icmp:*"}}}); err != nil {
		t.Fatal(err)
	}
	l.until("a sees c only", want("c"))
	if err := l.tn.SetGrants(nil); err != nil {
		t.Fatal(err)
	}
	l.until("a sees nobody", want())
}

// TestTagsChange gives a running node other tags: the policy holds for these at once, everybody is told, and
// the node stays who it is.
func TestTagsChange(t *testing.T) {
	l := newLab(t, tailnet.Options{})
	old := l.tn.CreateKey(tailnet.KeyOptions{Tags: []string{"tag:old"}})
	own, self := socket(t)
	theirs, watcher := socket(t)
	a, pa := l.node("a", peer.Config{AuthKey: old.Secret, Socket: own})
	_, pb := l.node("b", peer.Config{Socket: theirs})
	if err := l.tn.SetGrants([]tailnet.Grant{
		{Src: []string{"tag:old"}, Dst: []string{"b"}, IP: []string{"tcp:443", "tcp:80"}},
		{Src: []string{"tag:new"}, Dst: []string{"b"}, IP: []string{"tcp:80"}},
	}); err != nil {
		t.Fatal(err)
	}
	l.until("the old tag's port answers", func(ctx context.Context) error {
		c, err := a.Dial(ctx, "tcp", netip.AddrPortFrom(pb.V4, 443).String())
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	before, _ := l.tn.Node("a")
	if !l.tn.SetTags(before.StableID, "tag:new") || l.tn.SetTags("nNobodyCNTRL", "tag:new") {
		t.Error("tags are not set for exactly the node that is there")
	}
	changed := time.Now()
	told := func(lc *local.Client, tags func(*ipnstate.Status) *views.Slice[string]) func(context.Context) error {
		return func(ctx context.Context) error {
			st, err := lc.Status(ctx)
			if err != nil {
				return err
			}
			if got := tags(st); got == nil || !slices.Equal(got.AsSlice(), []string{"tag:new"}) {
				return fmt.Errorf("tags are %v", got)
			}
			return nil
		}
	}
	l.until("a hears of its own tags", told(self, func(st *ipnstate.Status) *views.Slice[string] { return st.Self.Tags }))
	l.until("b hears of them", told(watcher, func(st *ipnstate.Status) *views.Slice[string] {
		return st.Peer[before.NodeKey].Tags
	}))
	if took := time.Since(changed); took > 5*time.Second {
		t.Errorf("they heard after %v, perhaps of something else", took)
	}
	l.denied(a, netip.AddrPortFrom(pb.V4, 443))
	l.allowed(a, pb.V4, pa.V4.String()+" via=b")
	after, _ := l.tn.Node("a")
	if diff := cmp.Diff([]any{before.StableID, before.NodeKey, before.Addresses}, []any{after.StableID, after.NodeKey, after.Addresses}, cmpopts.EquateComparable(netip.Addr{}, key.NodePublic{})); diff != "" {
		t.Errorf("the node is another one now (-before +after):\n%s", diff)
	}
}

func TestBadGrants(t *testing.T) {
	tn, err := tailnet.Start(t.Context(), tailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tn.Close()
	any := []string{"*"}
	for _, tt := range []struct {
		name  string
		grant tailnet.Grant
		want  string
	}{
		{"no source", tailnet.Grant{Dst: any, IP: any}, `grant 1: src, dst and ip must each have an entry; write "*" for any`},
		{"internet as source", tailnet.Grant{Src: []string{"autogroup:internet"}, Dst: any, IP: any}, "grant 1: src: autogroup:internet is a destination only"},
		{"host bits", tailnet.Grant{Src: any, Dst: []string{"10.1.2.3/8"}, IP: any}, `grant 1: dst: "10.1.2.3/8" has bits set behind its length; write "10.0.0.0/8"`},
		{"ICMP with a port", tailnet.Grant{Src: any, Dst: any, IP: []string{"icmp:8"}}, `grant 1: ip: "icmp:8": ICMP has no ports; write "icmp:*"`},
		{"range backwards", tailnet.Grant{Src: any, Dst: any, IP: []string{"90-80"}},
			`grant 1: ip: "90-80" is none of "*", a port, a range as in "80-90", or one of these behind a protocol as in "tcp:443"`},
		{"unknown protocol", tailnet.Grant{Src: any, Dst: any, IP: []string{"tpc:80"}},
			`grant 1: ip: "tpc:80" is none of "*", a port, a range as in "80-90", or one of these behind a protocol as in "tcp:443"`},
		{"port in dst", tailnet.Grant{Src: any, Dst: []string{"tag:web:80"}, IP: any},
			`grant 1: dst: "tag:web:80" is none of "*", a tag as in "tag:web", autogroup:member, autogroup:tagged, autogroup:internet, an IP, a CIDR, a node's name`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tn.SetGrants([]tailnet.Grant{tt.grant}); err == nil || err.Error() != tt.want {
				t.Errorf("error\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}
