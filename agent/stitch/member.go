package stitch

import (
	"errors"
	"time"

	"github.com/rajsinghtech/tailgate/agent/joiner"
)

// minInterval is how far apart the looks at a namespace are that its own news ask for: what we change ourselves is
// news, too.
const minInterval = 100 * time.Millisecond

// member is one pod and the goroutine that works on it.
type member struct {
	e  *Engine
	id string
	// woken holds one value when there is something to do.
	woken chan struct{}

	// Guarded by e.mu.
	want    Member
	removed bool
	// gone: the namespace that want names has gone; there is no use in looking for it again.
	gone bool
	// gen counts what was set that concerns the member, done is the gen of the last work.
	gen, done uint64
	status    Status
	err       error
	news      chan struct{} // closed, and made anew, after each work
	// at is the gateway that its link, of status.Slot, leads to; nil: it has none that we know of.
	at *gateway

	// The worker's own.
	ns      *pinned
	where   NetNS // that ns was pinned for
	applied intent
	// made: its link is of our making, which was not told yet: what was set meanwhile made another look necessary.
	made   bool
	looked time.Time
	retry  backoff
	timer  alarm
}

// newMember returns a member that is about to be worked on. The caller holds e.mu.
func newMember(e *Engine, want Member) *member {
	m := &member{
		e: e, id: want.ID, woken: make(chan struct{}, 1), news: make(chan struct{}), want: want, gen: 1,
		retry: backoff{first: e.o.RetryFirst, most: e.o.RetryMost}, timer: newAlarm(),
	}
	m.status = Status{ID: want.ID, Asked: time.Now()}
	m.anew()
	m.wake()
	return m
}

// anew begins the status of a membership. The caller holds e.mu.
func (m *member) anew() {
	m.status.Name, m.status.Group = m.want.Name, m.want.Group
	m.status.State, m.status.Message = Waiting, "it has not been looked at yet"
	m.status.Asked, m.status.Joined = time.Now(), time.Time{}
	m.status.Closed, m.status.Ready = false, false
}

// set changes what is wanted. The caller holds e.mu.
func (m *member) set(want Member) {
	if !m.removed && m.want.equal(want) {
		return
	}
	moved := m.want.NetNS != want.NetNS
	again := moved || m.removed || m.want.Group != want.Group
	m.want, m.removed = want, false
	if moved {
		m.gone = false
	}
	m.status.Name = want.Name
	if again {
		m.anew()
	}
	m.wake()
}

// wake says that something that was set concerns the member. The caller holds e.mu.
func (m *member) wake() {
	m.gen++
	m.poke()
}

// poke has the worker look.
func (m *member) poke() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// run works until the member is forgotten or the engine ends.
func (m *member) run() {
	defer m.unpin()
	defer m.timer.stop()
	for {
		look := true // nobody asked for it, and so nobody waits for it
		select {
		case <-m.e.ctx.Done():
			return
		case <-m.woken:
			look = false
		case <-m.timer.c():
		case _, ok := <-m.changed():
			if !ok {
				m.ns.lost()
			}
			if wait := time.Until(m.looked.Add(m.pause())); wait > 0 {
				m.timer.set(wait)
				continue
			}
		}
		m.timer.stop()
		release, ok := m.e.turn(look)
		if !ok {
			return
		}
		forgotten := m.work()
		release()
		if forgotten {
			return
		}
	}
}

// changed is the namespace's news; nil, for ever silent, while there are none or a look is due soon in any case.
func (m *member) changed() <-chan struct{} {
	if m.ns == nil || m.timer.within(m.pause()) {
		return nil
	}
	return m.ns.changed
}

// pause is how long news have to wait after a look. Where a look ends in failure its own
// traces must not have it repeated for ever and at once.
func (m *member) pause() time.Duration { return max(minInterval, min(m.retry.last, time.Second)) }

// work does what is wanted and reports whether the member is to be forgotten.
func (m *member) work() (forgotten bool) {
	i := m.e.intent(m)
	switch {
	case i.undecided != "":
		m.report(i, nil, joiner.Result{}, nil)
	case i.leave:
		return m.leave(i)
	default:
		m.stitch(i)
	}
	m.looked = time.Now()
	return false
}

// stitch joins or repairs.
func (m *member) stitch(i intent) {
	if err := m.pin(i.where); err != nil {
		m.fail(i, joiner.Result{}, err)
		return
	}
	var t *joiner.Target
	if i.gw != nil {
		i.gw.mu.RLock()
		defer i.gw.mu.RUnlock()
		if m.e.ctx.Err() != nil {
			return // the gateway lets its namespace go then, which says nothing of the links to it
		}
		t = i.gw.target
		i.joined = t != nil
		i.spec.Keep.Link = i.spec.Keep.Link || i.gw.state == opening
	}
	r, err := joiner.Ensure(m.ns.h, t, i.spec)
	if m.ns.changed == nil {
		// After the work, whose every step would wake us; a look soon finds what was missed.
		err = errors.Join(err, m.ns.subscribe(m.e.ctx))
		m.timer.set(minInterval)
	}
	if err != nil {
		m.fail(i, r, err)
		return
	}
	m.retry.reset()
	if t == nil {
		m.report(i, nil, r, nil)
		return
	}
	m.report(i, i.gw, r, nil)
}

// leave takes the member out. A namespace that has gone has nothing in it.
func (m *member) leave(i intent) (forgotten bool) {
	err := m.pin(i.where)
	if err == nil {
		err = joiner.Leave(m.ns.h)
	}
	if err != nil && !errors.Is(err, errGone) {
		m.fail(i, joiner.Result{}, err)
		return false
	}
	m.unpin()
	m.retry.reset()
	return m.left(i, err)
}

// fail reports an error and has the work done again later, or not at all when there is no namespace to do it in.
func (m *member) fail(i intent, r joiner.Result, err error) {
	if errors.Is(err, errGone) {
		m.unpin()
		m.left(i, err)
		return
	}
	m.timer.set(m.retry.next())
	m.report(i, nil, r, err)
}

// pin opens the namespace, or sees whether the one that is open is still the right one.
func (m *member) pin(where NetNS) error {
	m.e.mu.Lock()
	gone := m.gone
	m.e.mu.Unlock()
	if gone {
		return errGone
	}
	same := m.where.same(where)
	if m.ns != nil && !same {
		// Another sandbox has taken its place. The old one is on its way out, and so it does not matter
		// whether it can still be left in good order.
		_ = joiner.Leave(m.ns.h)
		m.unpin()
	}
	if same {
		where.ID = m.where.ID // seen before, and not to be confused with what is there today
	}
	if m.ns == nil {
		ns, err := pin(where)
		if err != nil {
			return err
		}
		m.ns, m.applied = ns, intent{}
	}
	m.where = NetNS{Path: where.Path, ID: m.ns.id}
	m.ns.path = where.Path
	return m.ns.check()
}

func (m *member) unpin() {
	if m.ns == nil {
		return
	}
	if err := m.ns.close(); err != nil {
		m.e.log.Warn("close network namespace of member", "member", m.id, "err", err)
	}
	m.ns = nil
}
