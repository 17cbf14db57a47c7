package stitch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rajsinghtech/tailgate/agent/joiner"
)

// phase of a gateway's namespace.
type phase int

const (
	opening phase = iota // it was not found yet, which says nothing of links to it
	open
	closed // it has gone
)

// gateway is a namespace that members attach to and the goroutine that looks after it.
type gateway struct {
	e     *Engine
	group string
	// after is the one whose place it takes, which is to be cleared first; nil: none.
	after *gateway
	woken chan struct{}
	done  chan struct{} // closed when run has ended
	ctx   context.Context
	stop  context.CancelFunc

	// mu is held for reading while a member is joined to target or repaired, and for writing
	// while links are taken away from others than their members.
	mu     sync.RWMutex
	target *joiner.Target // nil unless state is open
	state  phase

	// Guarded by e.mu.
	where   NetNS
	message string // why it is not open; "": it is
	retired bool

	// The worker's own.
	ns     *pinned
	pruned bool
	told   string // the last error logged
	looked time.Time
	retry  backoff
	timer  alarm
}

// newGateway returns a gateway that is about to be looked for. The caller holds e.mu.
func newGateway(e *Engine, group string, where NetNS, after *gateway) *gateway {
	g := &gateway{
		e: e, group: group, where: where, after: after, message: "it has not been looked at yet",
		woken: make(chan struct{}, 1), done: make(chan struct{}),
		retry: backoff{first: e.o.RetryFirst, most: e.o.RetryMost}, timer: newAlarm(),
	}
	g.ctx, g.stop = context.WithCancel(e.ctx)
	return g
}

// retire ends it: members are to have no link to it any more. The caller holds e.mu.
func (g *gateway) retire() {
	g.retired = true
	g.stop()
}

// ended reports whether its work has.
func (g *gateway) ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// poke has the worker look.
func (g *gateway) poke() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// run looks after the namespace until it is retired or the engine ends.
func (g *gateway) run() {
	defer g.end()
	if g.after != nil {
		// All its links go at once there, which is quicker than one at a time as members move.
		<-g.after.done
		g.after = nil
	}
	for g.ctx.Err() == nil {
		if err := g.look(); err != nil {
			g.failed(err)
		}
		g.wait()
	}
}

// end lets the namespace go, and with it, when it is retired, its links.
func (g *gateway) end() {
	g.timer.stop()
	g.e.mu.Lock()
	retired := g.retired
	g.e.mu.Unlock()
	g.close(retired)
	close(g.done)
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	g.e.pokeMembers(g.group)
	g.e.forget(g.group)
}

// wait returns when there is something to do, or to be done.
func (g *gateway) wait() {
	for {
		var changed <-chan struct{}
		if g.ns != nil && !g.timer.within(minInterval) {
			changed = g.ns.changed
		}
		select {
		case <-g.ctx.Done():
			return
		case <-g.timer.c():
			g.timer.stop()
			return
		case <-g.woken:
		case _, ok := <-changed:
			if !ok {
				g.ns.lost()
			}
		}
		wait := time.Until(g.looked.Add(minInterval))
		if wait <= 0 {
			g.timer.stop()
			return
		}
		g.timer.set(wait)
	}
}

// look opens the namespace if it is not, and puts right what is wrong with it.
func (g *gateway) look() error {
	defer func() { g.looked = time.Now() }()
	if g.ns == nil {
		if err := g.open(); err != nil {
			return err
		}
	}
	g.e.mu.Lock()
	g.ns.path = g.where.Path
	g.e.mu.Unlock()
	err := g.ns.check()
	if err == nil {
		err = g.ns.subscribe(g.ctx)
	}
	if err != nil {
		return err
	}
	drifted, stale, err := g.check()
	if err != nil {
		return err
	}
	g.retry.reset()
	for _, id := range drifted {
		g.e.pokeMember(id)
	}
	if !stale {
		return nil
	}
	return g.prune()
}

// open makes the namespace a target.
func (g *gateway) open() error {
	g.e.mu.Lock()
	where := g.where
	g.e.mu.Unlock()
	ns, err := pin(where)
	if err != nil {
		return err
	}
	if err := ns.subscribe(g.ctx); err != nil {
		return errors.Join(err, ns.close())
	}
	t, err := joiner.NewTarget(ns.h)
	if err != nil {
		return errors.Join(err, ns.close())
	}
	g.ns, g.pruned = ns, false
	g.mu.Lock()
	g.target, g.state = t, open
	g.mu.Unlock()
	g.e.log.Info("gateway's network namespace is ready for members", "group", g.group, "netns", ns.id)
	g.e.mu.Lock()
	g.where.ID = ns.id // from now on nothing else will do
	g.e.mu.Unlock()
	g.told = ""
	g.say("")
	return nil
}

// say makes message the reason why the namespace is not open, or none, and tells who is concerned.
func (g *gateway) say(message string) {
	g.e.mu.Lock()
	news := g.message != message
	g.message = message
	if news {
		g.e.pokeMembers(g.group)
	}
	g.e.mu.Unlock()
	if news {
		g.e.o.GroupChanged(g.group)
	}
}

// failed says why there is no target, or not as it should be, and has it looked at again later.
func (g *gateway) failed(err error) {
	g.timer.set(g.retry.next())
	if errors.Is(err, errGone) {
		g.close(true)
	}
	if g.told != err.Error() {
		g.told = err.Error()
		g.e.log.Warn("gateway's network namespace is not ready for members", "group", g.group, "err", err)
	}
	if g.ns == nil {
		g.say(err.Error())
	}
}

// close lets the namespace go, with its links if members are to lose them.
func (g *gateway) close(links bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if links {
		g.state = closed
	}
	if g.target == nil {
		return
	}
	if links {
		all, err := g.target.Links()
		if err == nil {
			err = g.target.Remove(all)
		}
		if err != nil {
			g.e.log.Warn("remove links of a gateway that has gone", "group", g.group, "err", err)
		}
	}
	g.target.Close()
	if err := g.ns.close(); err != nil {
		g.e.log.Warn("close network namespace of gateway", "group", g.group, "err", err)
	}
	g.target, g.ns = nil, nil
}
