//go:build linux

package stitch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// scene is a group with a gateway that is ready, and its engine.
func scene(tb testing.TB) (l *lab, gateway *netns.Handle, where NetNS) {
	tb.Helper()
	l = newLab(tb)
	gateway, where = newNS(tb)
	run(tb, gateway, "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter") // as may be found
	l.SetClusterCIDRs(prefixes("10.96.0.0/12", "fd00:10:96::/112"))
	l.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.20.0.0/24")})
	l.SetGateway("payments", Gateway{NetNS: where, Snapshot: ready()})
	l.Synced()
	return l, gateway, where
}

func pod(id string, where NetNS) Member {
	return Member{ID: id, Name: "default/" + id, NetNS: where, Group: "payments"}
}

func TestJoinAndLeave(t *testing.T) {
	l, gw, _ := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	s := l.wait(t, "a")
	if s.State != Joined || s.Slot != 1 || !s.Closed || !s.Ready || s.Found || s.Took() <= 0 || s.Took() > 2*time.Second {
		t.Errorf("joined: %+v in %v", s, s.Took())
	}
	l.inPlace(t, "a")

	// Out of the group, and in again.
	m := pod("a", where)
	m.Group = ""
	l.SetMember(m)
	if s := l.wait(t, "a"); s.State != Left || s.Slot != 0 || s.Closed {
		t.Errorf("left: %+v", s)
	}
	nothingLeft(t, ns)
	if out := links(t, gw); out != "" {
		t.Errorf("left in the gateway: %s", out)
	}
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	l.inPlace(t, "a")

	l.RemoveMember("a")
	l.awaitForgotten(t, "a")
	nothingLeft(t, ns)
	if _, err := l.Wait(t.Context(), "a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("waiting for one that is forgotten: %v", err)
	}
	l.RemoveMember("a") // the absent is as good
}

func TestRemoveGroup(t *testing.T) {
	l, gw, _ := scene(t)
	var nss []*netns.Handle
	for i := range 5 {
		ns, where := newNS(t)
		nss = append(nss, ns)
		l.SetMember(pod(fmt.Sprint(i), where))
	}
	for i := range nss {
		l.wait(t, fmt.Sprint(i))
	}
	l.RemoveGroup("payments")
	for i, ns := range nss {
		if s := l.wait(t, fmt.Sprint(i)); s.State != Left {
			t.Errorf("member of a group that was removed: %+v", s)
		}
		nothingLeft(t, ns)
	}
	if out := links(t, gw); out != "" {
		t.Errorf("left in the gateway: %s", out)
	}
	if r := l.await(t, "group forgotten", func(r Report) bool { return len(r.Groups) == 0 }); len(r.Members) != 5 {
		t.Errorf("%d members are known, want 5 that left", len(r.Members))
	}
}

// A member of a group without a gateway is closed, and ADD gets its answer at its deadline.
func TestWaitsForGateway(t *testing.T) {
	l := newLab(t)
	ns, where := newNS(t)
	l.SetGroup(Group{Name: "payments", Exit: &Exit{}})
	l.Synced()
	l.SetMember(pod("a", where))
	l.await(t, "closed", func(r Report) bool { s, _ := r.member("a"); return s.Closed })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s, err := l.Wait(ctx, "a")
	if err != nil || s.State != Waiting || !s.Closed || s.Slot != 0 || s.Message != "group payments has no gateway on this node yet" {
		t.Errorf("%+v, %v", s, err)
	}
	if out := run(t, ns, "ip route get 198.51.100.1 2>&1 || true"); out != "RTNETLINK answers: No route to host\n" {
		t.Errorf("an exit member without its gateway has a way out: %s", out)
	}
	_, gw := newNS(t)
	l.SetGateway("payments", Gateway{NetNS: gw})
	s = l.awaitState(t, Joined)
	again, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if later, err := l.Wait(again, "a"); err != nil || s.Ready || later.Ready || again.Err() == nil {
		t.Errorf("ready, or not waited for, though the gateway has said nothing: %+v, %+v, %v", s, later, err)
	}
	l.SetGateway("payments", Gateway{NetNS: gw, Snapshot: ready()})
	if s := l.wait(t, "a"); !s.Ready {
		t.Errorf("%+v", s)
	}
	l.inPlace(t, "a")
}

// What cannot even be closed is an error.
func TestWaitFails(t *testing.T) {
	l := newLab(t)
	_, where := newNS(t)
	l.SetMember(pod("a", where))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := l.Wait(ctx, "a"); !errors.Is(err, ErrOpen) || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", s, err)
	}
	l.Close()
	if _, err := l.Wait(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestGatewayReplaced(t *testing.T) {
	l, old, oldWhere := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	index := linkIndex(t, ns)
	// Its container starts anew in the same namespace: nothing happens.
	l.SetGateway("payments", Gateway{NetNS: oldWhere})
	l.await(t, "not ready", func(r Report) bool { s, _ := r.member("a"); return !s.Ready })
	l.SetGateway("payments", Gateway{NetNS: oldWhere, Snapshot: ready()})
	l.wait(t, "a")
	if got := linkIndex(t, ns); got != index {
		t.Errorf("the link was made anew when the gateway's process was: %s, then %s", index, got)
	}
	fresh, freshWhere := newNS(t)
	l.SetGateway("payments", Gateway{NetNS: freshWhere, Snapshot: ready()})
	l.wait(t, "a")
	l.inPlace(t, "a")
	if out := links(t, old); out != "" {
		t.Errorf("left in the old gateway: %s", out)
	}
	if out := links(t, fresh); out != "tg1\n" {
		t.Errorf("links of the new gateway: %s", out)
	}
}

func TestGatewayRemoved(t *testing.T) {
	l, gw, gwWhere := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	l.RemoveGateway("payments")
	s := l.awaitState(t, Waiting)
	if !s.Closed || s.Slot != 0 {
		t.Errorf("%+v", s)
	}
	if out := links(t, gw) + links(t, ns); out != "" {
		t.Errorf("links left: %s", out)
	}
	if out := run(t, ns, "ip route get 100.64.0.1 2>&1 || true"); out != "RTNETLINK answers: No route to host\n" {
		t.Errorf("the tailnet is reached another way: %s", out)
	}
	// The very same comes back at once.
	l.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: ready()})
	l.wait(t, "a")
	l.inPlace(t, "a")
}

// The gateway's pod ends before anybody says so: its namespace has no path any more.
func TestGatewayGone(t *testing.T) {
	l, gw, gwWhere := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	unlink(t, gwWhere)
	run(t, gw, "ip link add gone type veth peer name gone2") // any change, such as the end of its eth0
	s := l.awaitState(t, Waiting)
	if !s.Closed || s.Slot != 0 || links(t, ns) != "" {
		t.Errorf("%+v, links %s", s, links(t, ns))
	}
	_, freshWhere := newNS(t)
	l.SetGateway("payments", Gateway{NetNS: freshWhere, Snapshot: ready()})
	l.wait(t, "a")
	l.inPlace(t, "a")
}

func TestMemberMovesBetweenGroups(t *testing.T) {
	l, old, _ := scene(t)
	other, otherWhere := newNS(t)
	l.SetGroup(Group{Name: "peers"})
	l.SetGateway("peers", Gateway{NetNS: otherWhere, Snapshot: ready()})
	_, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	m := pod("a", where)
	m.Group = "peers"
	l.SetMember(m)
	if s := l.wait(t, "a"); s.Group != "peers" {
		t.Errorf("%+v", s)
	}
	l.inPlace(t, "a")
	if from, to := links(t, old), links(t, other); from != "" || to != "tg1\n" {
		t.Errorf("links: %q in the old gateway, %q in the new", from, to)
	}
}

// Somebody else's link in the way is an error, said and tried again, and nothing of theirs is touched.
func TestFailsAndRecovers(t *testing.T) {
	l, _, _ := scene(t)
	ns, where := newNS(t)
	run(t, ns, "ip link add ts0 type veth peer name other")
	l.SetMember(pod("a", where))
	s := l.awaitState(t, Failed)
	if !s.Closed || s.Message == "" {
		t.Errorf("%+v", s)
	}
	index := linkIndex(t, ns)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if s, err := l.Wait(ctx, "a"); err != nil || s.State != Failed {
		t.Errorf("a failed member that is closed: %+v, %v", s, err)
	}
	if got := linkIndex(t, ns); got != index {
		t.Error("somebody else's link was replaced")
	}
	run(t, ns, "ip link del ts0")
	l.wait(t, "a")
	l.inPlace(t, "a")
}

// What fails of itself is tried again, ever later: here a name that the kernel has no room for.
func TestBacksOff(t *testing.T) {
	l, _, _ := scene(t)
	_, where := newNS(t)
	start := time.Now()
	m := pod("a", where)
	m.ID = strings.Repeat("a", 300)
	l.SetMember(m)
	tries := func(n int) time.Duration {
		l.await(t, fmt.Sprint(n, " tries"), func(r Report) bool { return len(r.Members) == 1 && r.Members[0].Failures >= n })
		return time.Since(start)
	}
	first, fifth := tries(1), tries(5)
	if pauses := 1500 * time.Millisecond; fifth-first < pauses {
		t.Errorf("five tries in %v, with pauses of less than %v", fifth, pauses)
	}
}
