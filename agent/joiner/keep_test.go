//go:build linux

package joiner

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

func mustEnsure(t *testing.T, ns *netns.Handle, target *Target, s Spec) Result {
	t.Helper()
	r, err := Ensure(ns, target, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEnsureTells what it did: all the first time, nothing the second, and then what was amiss.
func TestEnsureTells(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	if r := mustEnsure(t, ns, target, spec); !r.Made || !r.Closed || !r.Table || r.Slot != 1 || r.Member.Empty() || r.Gateway.Empty() {
		t.Errorf("joining: %+v", r)
	}
	if r := mustEnsure(t, ns, target, spec); r.Changed() || !r.Closed || r.Slot != 1 {
		t.Errorf("joining again: %+v", r)
	}
	if err := target.ns.Do(func() error {
		l, err := netlink.LinkByName(ident.GatewayLink(1))
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(l, 1400)
	}); err != nil {
		t.Fatal(err)
	}
	want := Result{Slot: 1, Closed: true, Gateway: netstate.Plan{netstate.LinkSet{Name: ident.GatewayLink(1), MTU: ident.MTU}}}
	if diff := cmp.Diff(want, mustEnsure(t, ns, target, spec), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("repairing (-want +got):\n%s", diff)
	}
}

// TestKeep repeats a join knowing less, and more, than whoever made it.
func TestKeep(t *testing.T) {
	full := Spec{
		ID: "pod-1", Prefixes: append(topology.TailnetPrefixes(), netip.MustParsePrefix("10.20.0.0/24"), netip.MustParsePrefix("fd20::/64")),
		Direct: spec.Direct, Exit: true, Resolvers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Redirect: true,
	}
	bare := Spec{ID: "pod-1", Prefixes: topology.TailnetPrefixes(), Exit: true, Resolvers: full.Resolvers}
	type effect struct{ Prefixes, Direct, Redirect, Link bool }
	for name, tt := range map[string]struct {
		keep   Keep
		target bool
		want   effect
	}{
		"nothing":           {target: true, want: effect{Link: true}},
		"nothing, no link":  {},
		"link":              {keep: Keep{Link: true}, want: effect{Link: true}},
		"prefixes":          {keep: Keep{Prefixes: true}, target: true, want: effect{Prefixes: true, Link: true}},
		"prefixes, no link": {keep: Keep{Prefixes: true}, want: effect{Prefixes: true}},
		"direct":            {keep: Keep{Direct: true}, target: true, want: effect{Direct: true, Link: true}},
		"redirect":          {keep: Keep{Redirect: true}, target: true, want: effect{Redirect: true, Link: true}},
		"redirect, no link": {keep: Keep{Redirect: true}},
		"all":               {keep: Keep{true, true, true, true}, want: effect{true, true, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			target, ns := newTarget(t), nstest.New(t)
			mustEnsure(t, ns, target, full)
			s, again := bare, (*Target)(nil)
			s.Keep = tt.keep
			if tt.target {
				again = target
			}
			r := mustEnsure(t, ns, again, s)
			have, nft := observe(t, ns, topology.MemberScope()), func() bool { tab, _ := table(t, ns); return topology.Redirects(tab) }
			got := effect{
				Prefixes: slices.Contains(steered(have), full.Prefixes[2]) && slices.Contains(steered(have), full.Prefixes[3]),
				Direct:   slices.Contains(direct(have), full.Direct[0]),
				Redirect: nft(), Link: len(have.Links) == 1,
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if all := (tt.keep == Keep{true, true, true, true}); r.Changed() == all || r.Kept != (tt.keep.Link && !tt.target) {
				t.Errorf("result %+v", r)
			}
			if slices.ContainsFunc(have.Routes, func(r netstate.Route) bool { return r.Type == netstate.Unicast }) != tt.want.Link {
				t.Errorf("routes by a link: %v", have.Routes)
			}
		})
	}
}

// A redirection that leads to one gateway is not kept for another.
func TestKeepsNoRedirectionElsewhere(t *testing.T) {
	ns := nstest.New(t)
	s := Spec{ID: "pod-1", Prefixes: topology.TailnetPrefixes(), Resolvers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Redirect: true}
	mustEnsure(t, ns, newTarget(t), s)
	s.Redirect, s.Keep.Redirect = false, true
	mustEnsure(t, ns, newTarget(t), s)
	if tab, _ := table(t, ns); topology.Redirects(tab) {
		t.Errorf("redirected to a gateway that may not answer:\n%v", tab)
	}
}

// Another member's link is not kept for this one.
func TestKeepsOwnLinkOnly(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	mustEnsure(t, ns, target, Spec{ID: "pod-12"})
	if r := mustEnsure(t, ns, nil, Spec{ID: "pod-1", Keep: Keep{Link: true}}); r.Slot != 0 || r.Kept {
		t.Errorf("%+v", r)
	}
}

func TestCheck(t *testing.T) {
	target := newTarget(t)
	members := map[int]string{}
	for i, id := range []string{"pod-a", "pod-b", "pod-c", "pod-d"} {
		members[mustEnsure(t, nstest.New(t), target, Spec{ID: id}).Slot] = id
		if len(members) != i+1 {
			t.Fatalf("slots %v", members)
		}
	}
	delete(members, 4) // nobody's
	members[5] = "pod-e"
	if err := target.ns.Do(func() error {
		// Foreign links whose names, and even alias, are like ours.
		tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tg7"}, Mode: netlink.TUNTAP_MODE_TUN}
		if err := netlink.LinkAdd(tun); err != nil {
			return err
		}
		if err := netlink.LinkSetAlias(tun, ident.AliasPrefix+target.alias("pod-x")); err != nil {
			return err
		}
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "tg6"}, PeerName: "other"}); err != nil {
			return err
		}
		l, err := netlink.LinkByName("tg2")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	}); err != nil {
		t.Fatal(err)
	}
	drifted, strangers, err := target.Check(members)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 5}, drifted); diff != "" {
		t.Errorf("drifted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Link{{Name: "tg4", Slot: 4, ID: "pod-d"}}, strangers); diff != "" {
		t.Errorf("strangers (-want +got):\n%s", diff)
	}
	if err := target.Remove(strangers); err != nil {
		t.Fatal(err)
	}
	if err := target.Remove(strangers); err != nil {
		t.Errorf("removing the absent: %v", err)
	}
	left, err := target.Links()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Link{{"tg1", 1, "pod-a"}, {"tg2", 2, "pod-b"}, {"tg3", 3, "pod-c"}}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestInspect(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	look := func(target *Target) Inspection {
		t.Helper()
		i, err := Inspect(ns, target, spec)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	if i := look(target); i.InPlace() || i.Slot != 0 || i.ObservedTable != "" {
		t.Errorf("before joining: %+v", i)
	}
	mustEnsure(t, ns, nil, spec)
	if i := look(nil); !i.InPlace() || i.Slot != 0 {
		t.Errorf("waiting: %+v", i)
	}
	mustEnsure(t, ns, target, spec)
	if i := look(target); !i.InPlace() || i.Slot != 1 || i.ObservedTable != i.DesiredTable || i.Gateway.Desired.String() == "" {
		t.Errorf("joined: %+v", i)
	}
	if err := ns.Do(func() error {
		return netlink.RouteDel(&netlink.Route{Table: ident.TableMember, Dst: mustNet(t, "100.64.0.0/10"), Priority: ident.MetricPreferred})
	}); err != nil {
		t.Fatal(err)
	}
	if i := look(target); i.InPlace() || len(i.Member.Plan) != 1 {
		t.Errorf("a route is missing, and the plan is\n%v", i.Member.Plan)
	}
	mustEnsure(t, ns, target, spec)
	nft, err := ruleset.Open(ns.FD())
	if err == nil {
		err = errors.Join(nft.Delete(ident.NFTable), nft.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if i := look(target); i.InPlace() || !i.Member.Plan.Empty() || i.ObservedTable != "" {
		t.Errorf("the table is missing: %+v", i)
	}
}
