//go:build linux

package joiner

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/late"
	"github.com/rajsinghtech/tailgate/test/script"
)

var spec = Spec{
	ID: "pod-1", Prefixes: topology.TailnetPrefixes(), Exit: true,
	Direct: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
}

func newTarget(t *testing.T) *Target {
	t.Helper()
	target, err := NewTarget(nstest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

func mustJoin(t *testing.T, ns *netns.Handle, target *Target, s Spec) int {
	t.Helper()
	slot, err := Join(ns, target, s)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func observe(t *testing.T, ns *netns.Handle, scope netstate.Scope) netstate.State {
	t.Helper()
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	s, err := k.Observe(scope)
	if err != nil {
		t.Fatal(err)
	}
	return s.Sorted()
}

func table(t *testing.T, ns *netns.Handle) (ruleset.Table, bool) {
	t.Helper()
	c, err := ruleset.Open(ns.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, ok, err := c.Observe(ident.NFTable)
	if err != nil {
		t.Fatal(err)
	}
	return got, ok
}

func member(target *Target, s Spec, slot int) topology.Member {
	return topology.Member{Alias: target.alias(s.ID), Slot: slot, Prefixes: s.Prefixes, Direct: s.Direct, Exit: s.Exit}
}

// checkJoined compares both namespaces with what topology says, all of it.
func checkJoined(t *testing.T, ns *netns.Handle, target *Target, s Spec, slot int) {
	t.Helper()
	m := member(target, s, slot)
	opts := []cmp.Option{
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(netstate.Link{}, "Peer", "TxQueueLen"),
	}
	if diff := cmp.Diff(m.State().Sorted(), observe(t, ns, topology.MemberScope()), opts...); diff != "" {
		t.Errorf("member (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(m.GatewayState().Sorted(), observe(t, target.ns, topology.AttachScope(slot)), opts...); diff != "" {
		t.Errorf("gateway (-want +got):\n%s", diff)
	}
	if got, ok := table(t, ns); !ok || !ruleset.Equal(got, m.Ruleset()) {
		t.Errorf("nftables:\n%s\nwant\n%s", got, m.Ruleset())
	}
}

func linkIndex(t *testing.T, ns *netns.Handle) (index int) {
	t.Helper()
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(ident.MemberLink)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return index
}

func TestJoinIsIdempotent(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	slot := mustJoin(t, ns, target, spec)
	checkJoined(t, ns, target, spec, slot)
	index := linkIndex(t, ns)
	again := mustJoin(t, ns, target, spec)
	if again != slot || linkIndex(t, ns) != index {
		t.Errorf("joining again moved slot %d to %d or replaced the link", slot, again)
	}
	// A joiner that was restarted knows nothing but what the kernel says.
	restarted, err := NewTarget(target.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer restarted.Close()
	if got := mustJoin(t, ns, restarted, spec); got != slot || linkIndex(t, ns) != index {
		t.Errorf("a restarted joiner moved slot %d to %d or replaced the link", slot, got)
	}
	checkJoined(t, ns, target, spec, slot)
}

func TestSpecChanges(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	slot := mustJoin(t, ns, target, spec)
	index := linkIndex(t, ns)
	changed := spec
	changed.Exit = false
	changed.Prefixes = append([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, changed.Prefixes...)
	mustJoin(t, ns, target, changed)
	checkJoined(t, ns, target, changed, slot)
	if linkIndex(t, ns) != index {
		t.Error("a change of routes replaced the link")
	}
}

func TestTamperedMemberHeals(t *testing.T) {
	for name, tamper := range map[string]func() error{
		"link deleted": func() error {
			l, err := netlink.LinkByName(ident.MemberLink)
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		},
		"link down": func() error {
			l, err := netlink.LinkByName(ident.MemberLink)
			if err != nil {
				return err
			}
			return netlink.LinkSetDown(l)
		},
		"link not ours any more": func() error {
			l, err := netlink.LinkByName(ident.MemberLink)
			if err != nil {
				return err
			}
			return netlink.LinkSetHardwareAddr(l, []byte{2, 0, 0, 0, 0, 9})
		},
		"rules gone": func() error {
			r := netlink.NewRule()
			r.Priority, r.Table, r.Family = ident.RuleMember, ident.TableMember, netlink.FAMILY_V4
			return netlink.RuleDel(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			target, ns := newTarget(t), nstest.New(t)
			mustJoin(t, ns, target, spec)
			if err := ns.Do(tamper); err != nil {
				t.Fatal(err)
			}
			checkJoined(t, ns, target, spec, mustJoin(t, ns, target, spec))
		})
	}
}

func TestForeignLinkInTheWay(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	if err := ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: ident.MemberLink}, PeerName: "other"})
	}); err != nil {
		t.Fatal(err)
	}
	index := linkIndex(t, ns)
	if _, err := Join(ns, target, spec); err == nil {
		t.Error("joined over somebody else's ts0")
	}
	if linkIndex(t, ns) != index {
		t.Error("somebody else's link was replaced")
	}
}

func TestSlotTaken(t *testing.T) {
	target := newTarget(t)
	first := nstest.New(t)
	slot := mustJoin(t, first, target, spec)
	target.last.Store(int64(slot) - 1) // as if the joiner had lost count
	second := nstest.New(t)
	other := mustJoin(t, second, target, Spec{ID: "pod-2", Prefixes: spec.Prefixes})
	if other == slot {
		t.Fatalf("both members have slot %d", slot)
	}
	checkJoined(t, first, target, spec, slot)
}

func TestGatewayReplaced(t *testing.T) {
	first, second, ns := newTarget(t), newTarget(t), nstest.New(t)
	slot := mustJoin(t, ns, first, spec)
	moved := mustJoin(t, ns, second, spec)
	checkJoined(t, ns, second, spec, moved)
	if left := observe(t, first.ns, topology.AttachScope(slot)); len(left.Links)+len(left.Routes)+len(left.Neighs) > 0 {
		t.Errorf("left in the old gateway:\n%v", left)
	}
}

func TestWaitingFailsClosed(t *testing.T) {
	ns := nstest.New(t)
	if slot := mustJoin(t, ns, nil, spec); slot != 0 {
		t.Errorf("slot %d without a gateway", slot)
	}
	waiting := topology.Member{Prefixes: spec.Prefixes, Direct: spec.Direct, Exit: true}
	if diff := cmp.Diff(waiting.State().String(), observe(t, ns, topology.MemberScope()).String()); diff != "" {
		t.Errorf("member (-want +got):\n%s", diff)
	}
	target := newTarget(t)
	checkJoined(t, ns, target, spec, mustJoin(t, ns, target, spec))
}

func TestLeaveLeavesNothing(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	foreign := netlink.Route{Dst: mustNet(t, "10.1.0.0/16"), Table: ident.TableMember, Type: 7 /* RTN_UNREACHABLE */, Priority: 5}
	if err := ns.Do(func() error { return netlink.RouteAdd(&foreign) }); err != nil {
		t.Fatal(err)
	}
	slot := mustJoin(t, ns, target, spec)
	for range 2 { // the second finds nothing to do
		if err := Leave(ns); err != nil {
			t.Fatal(err)
		}
		if left := observe(t, ns, topology.MemberScope()); len(left.Links)+len(left.Addrs)+len(left.Neighs)+len(left.Routes)+len(left.Rules) > 0 {
			t.Errorf("left in the member:\n%v", left)
		}
		if left := observe(t, target.ns, topology.AttachScope(slot)); len(left.Links)+len(left.Routes)+len(left.Neighs) > 0 {
			t.Errorf("left in the gateway:\n%v", left)
		}
		if _, ok := table(t, ns); ok {
			t.Error("left in the member: the nftables table")
		}
	}
	if err := ns.Do(func() error { return netlink.RouteDel(&foreign) }); err != nil {
		t.Errorf("a route of somebody else in our table went: %v", err)
	}
}

// TestManyMembers joins and takes out members by the hundred, several at a time as the agent does.
// That the cost of one does not grow with the number of the others shows in the log.
func TestManyMembers(t *testing.T) {
	const members, atATime = 500, 8
	target := newTarget(t)
	namespaces := make([]*netns.Handle, members)
	for i := range namespaces {
		namespaces[i] = nstest.New(t)
	}
	each := func(what string, do func(i int) error) {
		t.Helper()
		var g errgroup.Group
		g.SetLimit(atATime)
		start := time.Now()
		var hundredth [members / 100]time.Duration
		for i := range namespaces {
			g.Go(func() error { return do(i) })
			hundredth[i/100] = time.Since(start)
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%d members %s in %v, by the hundred: %v", members, what, time.Since(start), hundredth)
	}
	slots := make([]int, members)
	each("joined", func(i int) (err error) {
		s := spec
		s.ID = fmt.Sprintf("pod-%d", i)
		slots[i], err = Join(namespaces[i], target, s)
		return err
	})
	slices.Sort(slots)
	if n := len(slices.Compact(slots)); n != members {
		t.Errorf("%d members share %d slots", members, n)
	}
	each("left", func(i int) error { return Leave(namespaces[i]) })
	all := netstate.Scope{Links: []string{ident.GatewayLinkPrefix + "*"}, Tables: []int{ident.TableMain}}
	if left := observe(t, target.ns, all); len(left.Links)+len(left.Routes)+len(left.Neighs) > 0 {
		t.Errorf("left in the gateway:\n%v", left)
	}
}

func mustNet(t *testing.T, s string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestJoinedGetsAnswers: a member has joined when the kernel takes what comes to it. On a busy node that is some time
// after all else is in place; here it is as late as the test wants.
func TestJoinedGetsAnswers(t *testing.T) {
	target, ns := newTarget(t), nstest.New(t)
	slot := mustJoin(t, ns, target, spec)
	_, v6 := ident.MemberAddrs(slot)
	script.Run(t, ns, fmt.Sprintf("ip rule del pref %d", ident.RuleMember))
	want := member(target, spec, slot).State()
	late.LocalRoute(t, ns, fmt.Sprintf("%v dev %s", v6, ident.MemberLink), func() error {
		_, err := Join(ns, target, spec)
		return err
	}, func() bool { return netstate.Diff(observe(t, ns, topology.MemberScope()), want).Empty() })
}
