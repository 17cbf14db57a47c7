package tailnet

import (
	"context"
	"fmt"
)

// Changed returns a channel that is closed at the next change of anything:
// nodes coming, going, talking, keys, routes, policy.
func (t *Tailnet) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// changedLocked tells everybody who waits. t.mu is held.
func (t *Tailnet) changedLocked() {
	t.settleLocked()
	close(t.changed)
	t.changed = make(chan struct{})
}

// Wait returns when cond is true, asking again after every change. The error is
// that of ctx.
func (t *Tailnet) Wait(ctx context.Context, cond func(*Tailnet) bool) error {
	for {
		ch := t.Changed()
		if cond(t) {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitNode returns the node called name when it is logged in, online and has
// told its home relay, which is when peers can reach it.
func (t *Tailnet) WaitNode(ctx context.Context, name string) (Node, error) {
	var n Node
	err := t.Wait(ctx, func(t *Tailnet) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		found := t.byNameLocked(name)
		if found == nil || found.streams == 0 || found.homeDERP == 0 {
			return false
		}
		n = t.viewLocked(found)
		return true
	})
	if err != nil {
		return Node{}, fmt.Errorf("wait for node %q to be online: %w", name, err)
	}
	return n, nil
}
