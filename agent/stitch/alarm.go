package stitch

import "time"

// alarm is a timer that knows whether it is set. Of several settings the earliest counts.
type alarm struct {
	t   *time.Timer
	due time.Time // zero: not set
}

func newAlarm() alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return alarm{t: t}
}

func (a *alarm) c() <-chan time.Time { return a.t.C }

func (a *alarm) pending() bool { return !a.due.IsZero() }

// within reports whether it is set and goes off within d.
func (a *alarm) within(d time.Duration) bool { return a.pending() && time.Until(a.due) <= d }

func (a *alarm) set(wait time.Duration) {
	due := time.Now().Add(wait)
	if a.pending() && a.due.Before(due) {
		return
	}
	a.due = due
	a.t.Reset(wait)
}

func (a *alarm) stop() {
	a.due = time.Time{}
	a.t.Stop()
}

// backoff doubles a pause with each failure.
type backoff struct {
	first, most, last time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.first), b.most)
	return b.last
}

func (b *backoff) reset() { b.last = 0 }
