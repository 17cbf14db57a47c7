package ruleset_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// limit is longer than anything here takes; a test that reaches it has failed.
const limit = 20 * time.Second

func awaitWake(t *testing.T, wake <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, ok := <-wake:
		if !ok {
			t.Fatalf("%s: the channel was closed", what)
		}
	case <-time.After(limit):
		t.Fatalf("%s: nobody was woken", what)
	}
}

func TestSubscriptionHealsTampering(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	want := every(name)
	apply(t, c, want)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake, err := c.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"flush table inet " + name, "delete table inet " + name, "add table ip other"} {
		nft(t, h, script)
		awaitWake(t, wake, script)
		foreign := strings.HasPrefix(script, "add")
		if changed := apply(t, c, want); changed == foreign {
			t.Errorf("after %q: Apply changed the table: %t", script, changed)
		}
		if !foreign {
			awaitWake(t, wake, "our own change")
			if apply(t, c, want) {
				t.Errorf("after %q: Apply does not come to rest", script)
			}
		}
	}
	// Nothing is left to wake for: the next that wakes is the end.
	cancel()
	select {
	case _, ok := <-wake:
		if ok {
			t.Error("an Apply that changed nothing woke us")
		}
	case <-time.After(limit):
		t.Error("the channel was not closed")
	}
}

// More messages than the socket holds are lost; that is a reason to wake, not to end.
func TestSubscriptionSurvivesOverflow(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	wake, err := c.Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("table inet flood { chain c { }; }\n")
	for i := range 20000 {
		fmt.Fprintf(&script, "add rule inet flood c ip saddr 10.0.%d.%d counter\n", i>>8, i&255)
	}
	nft(t, h, script.String())
	awaitWake(t, wake, "a flood")
	for range 20 { // what of it was still waiting, with the changes in between
		apply(t, c, every(name))
		awaitWake(t, wake, "a table applied after the flood")
		if err := c.Delete(name); err != nil {
			t.Fatal(err)
		}
		awaitWake(t, wake, "a table deleted after the flood")
	}
}

// A commit while a table is read makes the reader begin again: it sees one table or
// the other, never the chains of one with the rules of the other.
func TestReadWhileOthersCommit(t *testing.T) {
	h := nstest.New(t)
	c, other := open(t, h), open(t, h)
	a, b := every(name), every(name)
	b.Chains[0].Rules, b.Chains[1].Rules = b.Chains[0].Rules[1:], b.Chains[1].Rules[3:]
	apply(t, other, a)
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			_, err = other.Apply([]ruleset.Table{b, a}[i%2])
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if have := observe(t, c); !ruleset.Equal(have, a) && !ruleset.Equal(have, b) {
				t.Fatalf("read a table that never was:\n%s", have)
			}
		}
	}
}
