//go:build linux

package stitch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// TestManyAtOnce joins three hundred pods that are all asked for at once, each from the goroutine of its ADD.
func TestManyAtOnce(t *testing.T) {
	const pods = 300
	l, gw, _ := scene(t)
	nss, wheres := make([]*netns.Handle, pods), make([]NetNS, pods)
	for i := range pods {
		nss[i], wheres[i] = newNS(t)
	}
	start := time.Now()
	joinAll(t, l, wheres)
	t.Logf("%d members joined in %v", pods, time.Since(start))
	slots := map[int]bool{}
	var took []time.Duration
	for _, s := range l.Snapshot().Members {
		slots[s.Slot] = true
		took = append(took, s.Took())
		if s.Slot%10 == 0 {
			l.inPlace(t, s.ID)
		}
	}
	slices.Sort(took)
	t.Logf("one of them: median %v, longest %v", took[pods/2], took[pods-1])
	if len(slots) != pods {
		t.Errorf("%d members share %d slots", pods, len(slots))
	}
	if n := l.Snapshot().Repairs; len(n) > 0 {
		t.Errorf("own changes were taken for somebody else's: %v", n)
	}
	start = time.Now()
	for i := range wheres {
		l.RemoveMember(fmt.Sprint(i))
	}
	l.await(t, "all forgotten", func(r Report) bool { return len(r.Members) == 0 })
	t.Logf("%d members left in %v", pods, time.Since(start))
	for _, ns := range nss[:10] {
		nothingLeft(t, ns)
	}
	if out := links(t, gw); out != "" {
		t.Errorf("left in the gateway: %s", out)
	}
}

// joinAll sets members with the IDs 0, 1, … and waits for them.
func joinAll(tb testing.TB, l *lab, wheres []NetNS) {
	tb.Helper()
	var wg sync.WaitGroup
	for i, where := range wheres {
		wg.Go(func() {
			id := fmt.Sprint(i)
			l.SetMember(pod(id, where))
			if s, err := l.Wait(tb.Context(), id); err != nil || s.State != Joined {
				tb.Errorf("member %s: %+v, %v", id, s, err)
			}
		})
	}
	wg.Wait()
}

// BenchmarkJoinStorm is a node whose 250 members start at once, BenchmarkRestart an engine that finds them. The gateway is
// replaced in BenchmarkGatewayReplaced.
func BenchmarkJoinStorm(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		l, _, _ := scene(b)
		wheres := namespaces(b, 250)
		b.StartTimer()
		joinAll(b, l, wheres)
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}

func BenchmarkRestart(b *testing.B) {
	l, _, gw := scene(b)
	wheres := namespaces(b, 250)
	joinAll(b, l, wheres)
	l.Close()
	for b.Loop() {
		next := newLab(b)
		next.SetClusterCIDRs(prefixes("10.96.0.0/12", "fd00:10:96::/112"))
		next.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.20.0.0/24")})
		next.SetGateway("payments", Gateway{NetNS: gw, Snapshot: ready()})
		joinAll(b, next, wheres)
		next.Close()
	}
}

func BenchmarkGatewayReplaced(b *testing.B) {
	l, _, _ := scene(b)
	wheres := namespaces(b, 250)
	joinAll(b, l, wheres)
	for b.Loop() {
		_, fresh := newNS(b)
		l.SetGateway("payments", Gateway{NetNS: fresh, Snapshot: ready()})
		for i := range wheres {
			if s, err := l.Wait(b.Context(), fmt.Sprint(i)); err != nil || s.State != Joined {
				b.Fatalf("%+v, %v", s, err)
			}
		}
	}
}

func namespaces(tb testing.TB, n int) []NetNS {
	tb.Helper()
	wheres := make([]NetNS, n)
	for i := range wheres {
		_, wheres[i] = newNS(tb)
	}
	return wheres
}

// TestVanish ends pods at any moment of their joining: their paths go, then somebody says so. Nobody fails, and nothing stays.
func TestVanish(t *testing.T) {
	const pods = 60
	l, gw, gwWhere := scene(t)
	wheres := make([]NetNS, pods)
	for i := range pods {
		// The engine's handle is to be the only one.
		h, where := newNS(t)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		wheres[i] = where
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i, where := range wheres {
		l.SetMember(pod(fmt.Sprint(i), where))
		// One of those that were asked for lately, at whatever point it is.
		if victim := i - random.IntN(4); victim >= 0 {
			unlink(t, wheres[victim])
		}
	}
	for i, where := range wheres {
		unlink(t, where)
		l.RemoveMember(fmt.Sprint(i))
	}
	l.await(t, "all forgotten", func(r Report) bool { return len(r.Members) == 0 })
	awaitLinks(t, gw, follow(t, gwWhere), "")
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, states := range l.seen {
		if slices.Contains(states, Failed) {
			t.Errorf("member %s: %v", id, states)
		}
	}
}

// A path that leads to another pod's namespace today is not taken for what it was.
func TestRecycledPath(t *testing.T) {
	for name, pinned := range map[string]bool{"known by its number": true, "known by its path alone": false} {
		t.Run(name, func(t *testing.T) {
			l, gw, gwWhere := scene(t)
			_, where := newNS(t)
			m := pod("a", where)
			if !pinned {
				m.NetNS.ID = netns.ID{}
			}
			l.SetMember(m)
			l.wait(t, "a")
			unlink(t, where)
			other, err := netns.NewNamed(where.Path[len("/run/netns/"):])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
			heard := listen(t, other)
			l.SetGroup(Group{Name: "payments", Prefixes: prefixes("10.30.0.0/24")}) // there is something to do
			if s := l.wait(t, "a"); s.State != Left || s.Message == "" {
				t.Errorf("%+v", s)
			}
			// The zombie's link goes, the other's namespace is left alone.
			awaitLinks(t, gw, follow(t, gwWhere), "")
			l.SetGroup(Group{Name: "payments"})
			l.wait(t, "a") // so that to be forgotten is all that changes
			l.RemoveMember("a")
			l.awaitForgotten(t, "a")
			if n := count(t, heard); n > 0 {
				t.Errorf("%d changes in somebody else's namespace", n)
			}
		})
	}
}

// A pod's sandbox is made anew: the same pod, another namespace.
func TestSandboxReplaced(t *testing.T) {
	l, gw, gwWhere := scene(t)
	old, oldWhere := newNS(t)
	l.SetMember(pod("a", oldWhere))
	l.wait(t, "a")
	_, where := newNS(t)
	l.SetMember(pod("a", where))
	if s := l.wait(t, "a"); s.Slot != 2 {
		t.Errorf("%+v", s)
	}
	l.inPlace(t, "a")
	nothingLeft(t, old)
	awaitLinks(t, gw, follow(t, gwWhere), "tg2\n")
}
