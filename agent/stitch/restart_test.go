//go:build linux

package stitch

import (
	"context"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
)

// set is what a group's members are given in the restart tests: one that mirrors the gateway's routes.
var mirroring = Group{Name: "payments", Mirror: true, MagicDNS: true, Exit: &Exit{Direct: prefixes("192.168.7.0/24")}}

// A new engine finds all as the one before left it. It is told of things in every order, and writes nothing.
func TestRestartWritesNothing(t *testing.T) {
	gw, gwWhere := newNS(t)
	var nss []*netns.Handle
	var pods []Member
	for i := range 6 {
		ns, where := newNS(t)
		nss = append(nss, ns)
		pods = append(pods, pod(fmt.Sprint(i), where))
	}
	snap := ready("10.55.0.0/16")
	snap.LocalRoutes = prefixes("192.168.8.0/24")
	l := newLab(t)
	inputs := []func(*lab){
		func(l *lab) { l.SetClusterCIDRs(prefixes("10.96.0.0/12")) },
		func(l *lab) { l.SetGroup(mirroring) },
		func(l *lab) { l.SetGateway("payments", Gateway{NetNS: gwWhere}) },
		func(l *lab) { l.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: snap}) },
	}
	for _, set := range inputs {
		set(l)
	}
	for i := range pods {
		pods[i].Resolvers = addrs("10.96.0.10")
		l.SetMember(pods[i])
	}
	l.Synced()
	index := map[int]string{}
	for i, p := range pods {
		l.wait(t, p.ID)
		l.inPlace(t, p.ID)
		index[i] = linkIndex(t, nss[i])
	}
	l.Close()

	for first := range len(inputs) + 1 {
		t.Run(fmt.Sprintf("members after %d inputs", first), func(t *testing.T) {
			var heard []writes
			for _, ns := range append(nss, gw) {
				heard = append(heard, listen(t, ns)...)
			}
			next := newLab(t)
			for at, set := range append(inputs, func(*lab) {}) {
				if at == first {
					for _, p := range pods {
						next.SetMember(p)
					}
					// What is known by now has been worked on.
					for _, p := range pods {
						next.await(t, "looked at", func(r Report) bool {
							s, _ := r.member(p.ID)
							return s.Message != "it has not been looked at yet"
						})
					}
				}
				set(next)
			}
			next.Synced()
			for i, p := range pods {
				if s := next.wait(t, p.ID); !s.Found || s.Repairs > 0 || s.Took() != 0 {
					t.Errorf("%+v", s)
				}
				if got := linkIndex(t, nss[i]); got != index[i] {
					t.Errorf("member %s: link %s is %s now", p.ID, index[i], got)
				}
				next.inPlace(t, p.ID)
			}
			next.Close() // and so all of its work is done
			if n := count(t, heard); n > 0 {
				t.Errorf("%d changes in the namespaces", n)
			}
		})
	}
}

// A look that is under way when the engine is closed may come to its gateway after that let its namespace go.
func TestLookAtTheEnd(t *testing.T) {
	l, _, _ := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	index := linkIndex(t, ns)
	a := l.members["a"]
	l.Close()
	heard := listen(t, ns)
	a.work()
	a.unpin()
	if got := linkIndex(t, ns); got != index {
		t.Errorf("link %s is %q now", index, got)
	}
	if n := count(t, heard); n > 0 {
		t.Errorf("%d changes in the namespace", n)
	}
}

// The gateway is down when the agent starts: what it last said holds, whoever was told.
func TestRestartWithoutGatewaysWord(t *testing.T) {
	_, gwWhere := newNS(t)
	ns, where := newNS(t)
	p := pod("a", where)
	p.Resolvers = addrs("10.96.0.10")
	l := newLab(t)
	l.SetGroup(mirroring)
	l.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: ready("10.55.0.0/16", "fd55::/64")})
	l.SetMember(p)
	l.Synced()
	l.wait(t, "a")
	l.Close()

	next := newLab(t)
	next.SetGroup(mirroring)
	next.SetGateway("payments", Gateway{NetNS: gwWhere})
	next.SetMember(p)
	next.Synced()
	next.awaitState(t, Joined)
	next.inPlace(t, "a")
	steered := func() string { return run(t, ns, "ip route show table 7717 10.55.0.0/16") }
	if steered() == "" {
		t.Error("a mirrored route was dropped though the gateway has not said so")
	}
	// In half it is healed.
	run(t, ns, "ip route del 10.55.0.0/16 table 7717 metric 100")
	next.await(t, "healed", func(r Report) bool { s, _ := r.member("a"); return s.Repairs > 0 })
	next.inPlace(t, "a")
	if run(t, ns, "ip route show table 7717 10.55.0.0/16 metric 100") == "" {
		t.Error("a mirrored route was not healed")
	}
	// It says so now: one of them is not accepted any more.
	next.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: ready("fd55::/64")})
	next.wait(t, "a")
	next.inPlace(t, "a")
	if got := steered(); got != "" {
		t.Errorf("still steered: %s", got)
	}
	// While it starts anew it knows nothing, and nothing changes.
	off := ready()
	off.BackendState, off.Ready = "NoState", false
	next.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: off})
	next.await(t, "not ready", func(r Report) bool { s, _ := r.member("a"); return !s.Ready })
	next.inPlace(t, "a")
	if run(t, ns, "ip -6 route show table 7717 fd55::/64") == "" {
		t.Error("a mirrored route was dropped while the gateway was starting")
	}
}

// Links of pods that are gone, but whose namespaces somebody keeps alive, and what an engine left half-made when it
// died, go when all is known and not before. The same holds for pods that left meanwhile.
func TestPruneAfterSync(t *testing.T) {
	l, gw, gwWhere := scene(t)
	stays, staysWhere := newNS(t)
	left, leftWhere := newNS(t)
	_, goneWhere := newNS(t)
	l.SetMember(pod("stays", staysWhere))
	l.wait(t, "stays") // tg1
	l.SetMember(pod("left", leftWhere))
	l.wait(t, "left") // tg2
	l.SetMember(pod("gone", goneWhere))
	l.wait(t, "gone") // tg3
	l.Close()
	halfMade(t, gw)
	run(t, gw, "ip link add tg99 type veth peer name foreign") // somebody else's, whatever its name

	next := newLab(t)
	next.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: ready()})
	next.SetMember(pod("stays", staysWhere))
	nobody := pod("left", leftWhere)
	nobody.Group = ""
	next.SetMember(nobody)
	next.await(t, "gateway open", func(r Report) bool {
		return len(r.Groups) == 1 && r.Groups[0].Gateway.Open && allLooked(r)
	})
	if got, want := links(t, gw), "tg1\ntg2\ntg3\ntg77\nforeign\ntg99\n"; got != want {
		t.Errorf("before all is known the gateway has\n%swant\n%s", got, want)
	}
	if run(t, left, "ip route show table 7717") == "" {
		t.Error("a pod that nobody wants was taken out before all was known")
	}
	// What is not decided is as it should be, to who looks.
	if i, err := next.Inspect("left"); err != nil || !i.InPlace() || i.Member.Observed.String() == "" {
		t.Errorf("before all is known: %+v, %v", i, err)
	}
	index := linkIndex(t, stays)
	next.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.20.0.0/24")})
	next.SetClusterCIDRs(prefixes("10.96.0.0/12", "fd00:10:96::/112"))
	changed := follow(t, gwWhere)
	next.Synced()
	if s := next.wait(t, "stays"); !s.Found || linkIndex(t, stays) != index {
		t.Errorf("%+v", s)
	}
	next.wait(t, "left")
	nothingLeft(t, left)
	if i, err := next.Inspect("left"); err != nil || !i.InPlace() {
		t.Errorf("after it has left: %+v, %v", i, err)
	}
	awaitLinks(t, gw, changed, "tg1\nforeign\ntg99\n")
	next.inPlace(t, "stays")

	// From here on it goes without saying.
	_, zombie := newNS(t)
	next.SetMember(pod("zombie", zombie))
	next.wait(t, "zombie")
	unlink(t, zombie)
	next.RemoveMember("zombie")
	awaitLinks(t, gw, changed, "tg1\nforeign\ntg99\n")
}

// halfMade leaves what an engine leaves that dies at the worst moment: a link that does not say whose it is.
func halfMade(t *testing.T, gw *netns.Handle) {
	t.Helper()
	half, _ := newNS(t)
	if err := half.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: ident.MemberLink, Group: ident.RouteProtocol},
			PeerName:  "tg77", PeerNamespace: netlink.NsFd(gw.FD()),
		})
	}); err != nil {
		t.Fatal(err)
	}
	if err := gw.Do(func() error { // as the kernel gives it to both ends of a pair that is asked for so
		link, err := netlink.LinkByName("tg77")
		if err != nil {
			return err
		}
		return netlink.LinkSetGroup(link, ident.RouteProtocol)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPruneHalfMade(t *testing.T) {
	gw, gwWhere := newNS(t)
	halfMade(t, gw)
	l := newLab(t)
	l.SetGateway("payments", Gateway{NetNS: gwWhere})
	l.await(t, "gateway open", func(r Report) bool { return r.Groups[0].Gateway.Open })
	if got := links(t, gw); got != "tg77\n" {
		t.Errorf("before all is known: %s", got)
	}
	changed := follow(t, gwWhere)
	l.Synced()
	awaitLinks(t, gw, changed, "")
}

// Until all is known, what a member has is added to and never taken from.
func TestNothingGoesBeforeSync(t *testing.T) {
	l, _, gwWhere := scene(t)
	ns, where := newNS(t)
	l.SetMember(pod("a", where))
	l.wait(t, "a")
	l.Close()
	next := newLab(t)
	next.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.30.0.0/24")})
	next.SetGateway("payments", Gateway{NetNS: gwWhere, Snapshot: ready()})
	next.SetMember(pod("a", where))
	next.wait(t, "a")
	next.inPlace(t, "a")
	has := func() string {
		return run(t, ns, `
			ip route show table 7717 10.20.0.0/24 metric 100 | cut -d' ' -f1
			ip route show table 7717 10.30.0.0/24 metric 100 | cut -d' ' -f1
			ip rule show to 10.96.0.0/12 | cut -d: -f1`)
	}
	if got, want := has(), "10.20.0.0/24\n10.30.0.0/24\n7701\n"; got != want {
		t.Errorf("before all is known\n%swant\n%s", got, want)
	}
	next.Synced()
	next.wait(t, "a")
	next.inPlace(t, "a")
	if got, want := has(), "10.30.0.0/24\n"; got != want {
		t.Errorf("after\n%swant\n%s", got, want)
	}
}

func allLooked(r Report) bool {
	for _, s := range r.Members {
		if s.Message == "it has not been looked at yet" {
			return false
		}
	}
	return true
}

// awaitLinks waits for a namespace to have just these links, looking at its news.
func awaitLinks(t *testing.T, ns *netns.Handle, changed <-chan struct{}, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		got := links(t, ns)
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("links are\n%swant\n%s", got, want)
		}
	}
}
