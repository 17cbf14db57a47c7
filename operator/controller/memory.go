package controller

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// What is here is lost with the process, and nothing depends on it: another operator measures from the next
// change on, tells once more, or gives a device once more the tags that it has.

// timers remember, by group, which configuration was written when. A new leader measures from the
// next change on.
type timers struct {
	mu sync.Mutex
	of map[string]timer
}

type timer struct {
	hash  string
	begun time.Time
}

func (t *timers) start(group, hash string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]timer{}
	}
	if t.of[group].hash != hash {
		t.of[group] = timer{hash: hash, begun: time.Now()}
	}
}

// stop returns how long it took until the configuration with that hash was applied, if that was not told before.
func (t *timers) stop(group, hash string) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	begun, ok := t.of[group]
	if !ok || begun.hash != hash {
		return 0, false
	}
	delete(t.of, group)
	return time.Since(begun.begun), true
}

func (t *timers) forget(group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, group)
}

// told remembers what was told of objects that are being deleted, so that it is told once.
type told struct {
	mu sync.Mutex
	of map[types.UID]map[string]bool
}

// first reports whether the reason was not told of the object before.
func (t *told) first(o metav1.Object, reason string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[types.UID]map[string]bool{}
	}
	if t.of[o.GetUID()] == nil {
		t.of[o.GetUID()] = map[string]bool{}
	}
	before := t.of[o.GetUID()][reason]
	t.of[o.GetUID()][reason] = true
	return !before
}

func (t *told) forget(o metav1.Object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, o.GetUID())
}

// tagged remembers what was done about the tags of devices until their agents report others.
type tagged struct {
	mu sync.Mutex
	of map[types.NamespacedName]tagging
}

type tagging struct {
	what  string
	again time.Time // zero: never
}

// tagPatience is how long an agent may take to report new tags.
const tagPatience = 2 * time.Minute

// wait reports whether something was done already, and when to do it again; 0: when something else is to be done.
func (t *tagged) wait(name types.NamespacedName, what string) (wait time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	done := t.of[name]
	if done.what != what {
		return 0, false
	}
	if done.again.IsZero() {
		return 0, true
	}
	wait = time.Until(done.again)
	return max(0, wait), wait > 0
}

// note remembers what was done, and returns when to do it again; 0: never.
func (t *tagged) note(name types.NamespacedName, what string, again time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[types.NamespacedName]tagging{}
	}
	done := tagging{what: what}
	if again > 0 {
		done.again = time.Now().Add(again)
	}
	t.of[name] = done
	return again
}

func (t *tagged) forget(name types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, name)
}

// cleanups remember, for the groups' status, what holds up the deletion of devices.
type cleanups struct {
	mu sync.Mutex
	of map[types.NamespacedName]string
}

// note says why a cleanup is late, in a sentence.
func (c *cleanups) note(name types.NamespacedName, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[types.NamespacedName]string{}
	}
	c.of[name] = why
}

func (c *cleanups) clear(name types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.of, name)
}

// late returns why cleanups of these gateways are late; "" if none is.
func (c *cleanups) late(gateways []v1alpha1.EgressGateway) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var said []string
	for i := range gateways {
		if why := c.of[client.ObjectKeyFromObject(&gateways[i])]; why != "" {
			said = append(said, why)
		}
	}
	return few(said)
}
