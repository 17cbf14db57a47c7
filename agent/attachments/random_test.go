package attachments_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

// world is what really is, as opposed to what the store makes of it.
type world struct {
	*node
	namespaces []*netns.Handle
	bound      map[string]netns.ID // by path, as the host calls it
	// seen is which namespace the store said a container has since its newest claim; it may say no
	// other before the next one.
	seen    map[string]netns.ID
	deleted map[string]bool // containers without a claim since DEL
	history []string
}

const (
	randomPaths      = 3
	randomContainers = 5 // of two pods
)

// TestRandom does all that can happen in random order, with few paths and namespaces so that all are
// used again and again, and checks what must hold whatever happened.
func TestRandom(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &world{node: newNode(t), bound: map[string]netns.ID{}, seen: map[string]netns.ID{}, deleted: map[string]bool{}}
			for range 3 {
				w.namespaces = append(w.namespaces, nstest.New(t))
			}
			must(t, os.MkdirAll(w.dir(), 0o700))
			before := descriptors(t)
			rng := rand.New(rand.NewPCG(seed, 7))
			for range 80 {
				nextTick(t)
				claimed := w.step(t, rng)
				w.store.Look()
				w.check(t, claimed)
				if t.Failed() {
					t.Fatal(strings.Join(w.history, "\n"))
				}
			}
			w.store.Close()
			if got := descriptors(t); got != before {
				t.Errorf("%d descriptors are left", got-before)
			}
		})
	}
}

// nextTick waits until the clock of files is past now: it tells the order only of what is a tick apart.
func nextTick(t *testing.T) {
	t.Helper()
	now := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var coarse unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &coarse))
		if time.Unix(coarse.Unix()).After(now) {
			return
		}
		<-tick.C
	}
}

// step does one thing. It returns the claim that was made, if the path of it leads to a namespace.
func (w *world) step(t *testing.T, rng *rand.Rand) *attachments.Claim {
	t.Helper()
	n := rng.IntN(randomContainers)
	c := claim(fmt.Sprint("pod", n%2), fmt.Sprint("c", n))
	c.NetNS = fmt.Sprint("/run/netns/", rng.IntN(randomPaths))
	say := func(format string, args ...any) { w.history = append(w.history, fmt.Sprintf(format, args...)) }
	_, there := w.bound[c.NetNS]
	switch rng.IntN(8) {
	case 0, 1:
		ns := w.namespaces[rng.IntN(len(w.namespaces))]
		say("bind %s to %v", c.NetNS, id(t, ns))
		w.unbindPath(t, c.NetNS)
		w.bind(t, filepath.Base(c.NetNS), ns)
		w.bound[c.NetNS] = id(t, ns)
	case 2:
		say("unbind %s", c.NetNS)
		w.unbindPath(t, c.NetNS)
	case 3:
		say("remove file of %s", c.ContainerID)
		_ = os.Remove(w.file(c)) // if it is there
	case 4:
		say("delete %s", c.ContainerID)
		w.store.Delete(c.ContainerID, "eth0")
		w.deleted[c.ContainerID] = true
	case 5:
		say("add %s at %s", c.ContainerID, c.NetNS)
		if err := w.store.Add(c); (err == nil) != there {
			t.Errorf("Add returned %v", err)
		}
		if there {
			w.claimed(c)
			return &c
		}
	default:
		say("write file of %s at %s", c.ContainerID, c.NetNS)
		w.write(t, c)
		w.claimed(c)
		if there {
			return &c
		}
	}
	return nil
}

func (w *world) claimed(c attachments.Claim) {
	delete(w.seen, c.ContainerID)
	delete(w.deleted, c.ContainerID)
}

func (w *world) unbindPath(t *testing.T, path string) {
	t.Helper()
	if _, ok := w.bound[path]; ok {
		delete(w.bound, path)
		real := filepath.Join(w.root, path)
		must(t, unix.Unmount(real, unix.MNT_DETACH), os.Remove(real))
	}
}

// check checks what the store says of both pods.
func (w *world) check(t *testing.T, claimed *attachments.Claim) {
	t.Helper()
	owners := map[netns.ID]string{}
	for _, a := range w.store.List() {
		path := strings.TrimPrefix(a.NetNS, w.root)
		if now, ok := w.bound[path]; !ok || now != a.ID {
			t.Errorf("%s: %s leads to %v, not to %v", a.Name, path, now, a.ID)
		}
		if was, ok := w.seen[a.ContainerID]; ok && was != a.ID {
			t.Errorf("%s had %v and has %v, with no claim between", a.ContainerID, was, a.ID)
		}
		w.seen[a.ContainerID] = a.ID
		if w.deleted[a.ContainerID] {
			t.Errorf("%s is deleted", a.ContainerID)
		}
		if other, ok := owners[a.ID]; ok {
			t.Errorf("%s and %s have one namespace", a.Name, other)
		}
		owners[a.ID] = a.Name
	}
	if claimed == nil {
		return
	}
	// The newest claim of all wins.
	a, _ := w.store.Lookup(claimed.PodUID)
	if a.ContainerID != claimed.ContainerID || a.ID != w.bound[claimed.NetNS] {
		t.Errorf("claimed %s at %s, said %+v", claimed.ContainerID, claimed.NetNS, a)
	}
}
