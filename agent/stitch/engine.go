package stitch

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
)

// Engine stitches members to gateways. Make it with [New]. All its methods may be called from several
// goroutines at the same time; those that set something return at once.
type Engine struct {
	o   Options
	log *slog.Logger
	// ctx ends with Close. It is the engine's own: what it does is nobody's request.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	// turns holds one value for each namespace that is worked on, looks one for each of those that nobody asked
	// to be worked on: fewer, so that the looks that follow joins leave room for the joins behind them.
	turns, looks chan struct{}

	// mu guards what follows, and the fields of members and gateways that say so. A gateway's lock is taken
	// before it, never after.
	mu      sync.Mutex
	members map[string]*member
	groups  map[string]*group
	cluster []netip.Prefix
	synced  bool
	repairs map[string]int
}

// group is a group as far as it is known, and its gateway.
type group struct {
	want *Group   // nil: only its gateway was told of
	gw   *gateway // nil: none
	// before is the last that was retired: the next waits for its end.
	before   *gateway
	learned  learned
	told     bool // the gateway has said something, whatever it is
	ready    bool // it said that it is ready
	steering steering
}

// New returns an engine that knows nothing and does nothing yet.
func New(o Options) *Engine {
	o = o.withDefaults()
	e := &Engine{
		o: o, log: o.Logger, turns: make(chan struct{}, o.Workers), looks: make(chan struct{}, max(1, o.Workers/4)),
		members: make(map[string]*member), groups: make(map[string]*group), repairs: make(map[string]int),
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// Close ends all work and waits for its end. The kernel keeps its state, for the next engine to find.
func (e *Engine) Close() {
	e.mu.Lock()
	e.stop()
	e.mu.Unlock()
	e.wg.Wait()
}

// start runs work until its end, unless the engine is closed. The caller holds e.mu.
func (e *Engine) start(work func()) {
	if e.ctx.Err() == nil {
		e.wg.Go(work)
	}
}

// turn waits until another namespace may be worked on; ok is false when the engine ends before that.
func (e *Engine) turn(look bool) (release func(), ok bool) {
	take := []chan struct{}{e.turns}
	if look {
		take = []chan struct{}{e.looks, e.turns}
	}
	for _, c := range take {
		select {
		case c <- struct{}{}:
		case <-e.ctx.Done():
			return nil, false
		}
	}
	return func() {
		for _, c := range take {
			<-c
		}
	}, true
}

// SetMember makes m known, or what is different about it. Another namespace under the same ID (a
// pod's sandbox that was made anew) is another member in the place of the old one.
func (e *Engine) SetMember(m Member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	have := e.members[m.ID]
	if have == nil {
		have = newMember(e, m)
		e.members[m.ID] = have
		e.start(have.run)
		return
	}
	have.set(m)
}

// RemoveMember takes a member out and forgets it; it may be unknown, and its namespace may have gone.
func (e *Engine) RemoveMember(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.members[id]; m != nil && !m.removed {
		m.removed = true
		m.wake()
	}
}

// group returns the group of that name, made if there is none. The caller holds e.mu.
func (e *Engine) group(name string) *group {
	g := e.groups[name]
	if g == nil {
		g = &group{}
		e.groups[name] = g
	}
	return g
}

// SetGroup makes a group known, or what is different about it. What want refers to must not change afterwards.
func (e *Engine) SetGroup(want Group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.group(want.Name)
	if g.want != nil && reflect.DeepEqual(*g.want, want) {
		return
	}
	news := g.want == nil || g.want.MagicDNS != want.MagicDNS
	g.want = &want
	if e.steer(g) || news {
		e.wakeMembers(want.Name)
	}
}

// RemoveGroup forgets a group and its gateway. Its members leave.
func (e *Engine) RemoveGroup(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[name]
	if g == nil {
		return
	}
	before := e.retire(name, g)
	*g = group{before: before}
	e.forget(name)
}

// SetGateway says where a group's gateway is and what it says. Members move when the namespace is another one.
func (e *Engine) SetGateway(name string, gw Gateway) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.group(name)
	moved := g.gw == nil || !g.gw.where.same(gw.NetNS)
	ready := gw.Snapshot != nil && gw.Snapshot.Ready
	told := gw.Snapshot != nil || g.told && !moved
	l := g.learned.learn(gw.Snapshot)
	news := ready != g.ready || told != g.told || l.known != g.learned.known
	g.ready, g.told, g.learned = ready, told, l
	if moved {
		if g.gw != nil {
			g.before = g.gw
			g.gw.retire()
		}
		g.gw = newGateway(e, name, gw.NetNS, g.before)
		e.start(g.gw.run)
		e.steer(g)
		e.markMembers(name) // woken when there is a namespace to move to, or none
		return
	}
	g.gw.where.Path = gw.NetNS.Path
	if e.steer(g) || news {
		e.wakeMembers(name)
	}
}

// RemoveGateway says that a group has no gateway on this node any more. Its members wait for the next.
func (e *Engine) RemoveGateway(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[name]
	if g == nil || g.gw == nil {
		return
	}
	g.before = e.retire(name, g)
	g.gw, g.ready, g.told = nil, false, false
	e.forget(name)
}

// retire retires the group's gateway, if it has one, and returns the last that was retired. The members are woken, or will be
// when the links to the gateway are gone, which go quicker all at once. The caller holds e.mu.
func (e *Engine) retire(name string, g *group) *gateway {
	if g.gw == nil {
		e.wakeMembers(name)
		return g.before
	}
	g.gw.retire()
	e.markMembers(name)
	return g.gw
}

// forget drops a group of which nothing is known or going on. The caller holds e.mu.
func (e *Engine) forget(name string) {
	g := e.groups[name]
	if g != nil && g.want == nil && g.gw == nil && (g.before == nil || g.before.ended()) {
		delete(e.groups, name)
	}
}

// SetClusterCIDRs says what stays on the members' own interface: the addresses of pods, services and nodes. It is best
// called before the first SetMember: a new member of a group with an exit node has no way to the cluster without it.
func (e *Engine) SetClusterCIDRs(cidrs []netip.Prefix) {
	e.mu.Lock()
	defer e.mu.Unlock()
	cidrs = canonical(cidrs)
	if slices.Equal(e.cluster, cidrs) {
		return
	}
	e.cluster = cidrs
	for name, g := range e.groups {
		if e.steer(g) {
			e.wakeMembers(name)
		}
	}
}

// Synced says that all that there is has been set once. From here on what nobody wants is taken away.
func (e *Engine) Synced() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.synced {
		return
	}
	e.synced = true
	for _, m := range e.members {
		m.wake()
	}
	for _, g := range e.groups {
		if g.gw != nil {
			g.gw.poke()
		}
	}
}

// steer works out what the group's members have in common, and reports whether it is different. The caller holds e.mu.
func (e *Engine) steer(g *group) bool {
	if g.want == nil {
		return false
	}
	s := steer(*g.want, g.learned, e.cluster)
	if reflect.DeepEqual(s, g.steering) {
		return false
	}
	for _, o := range s.overlaps {
		if !slices.Contains(g.steering.overlaps, o) {
			e.log.Warn("a route meets a CIDR of the cluster, whose addresses stay direct",
				"group", g.want.Name, "route", o.Route, "cidr", o.CIDR, "steered beside it", o.Steered)
		}
	}
	g.steering = s
	return true
}

// wakeMembers tells a group's members that something is different. The caller holds e.mu.
func (e *Engine) wakeMembers(name string) {
	e.markMembers(name)
	e.pokeMembers(name)
}

// markMembers says that something that was set concerns the group's members, which will be poked. The
// caller holds e.mu.
func (e *Engine) markMembers(name string) {
	for _, m := range e.members {
		if m.want.Group == name {
			m.gen++
		}
	}
}

// pokeMembers has a group's members looked at. The caller holds e.mu.
func (e *Engine) pokeMembers(name string) {
	for _, m := range e.members {
		if m.want.Group == name {
			m.poke()
		}
	}
}
