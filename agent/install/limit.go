package install

import "time"

// Within window the entry is put in burst times at once. Whoever takes it out more often does so for a reason, and
// two that answer each other would keep a node busy.
const (
	burst  = 10
	window = time.Minute
)

// limiter keeps to burst within window. The zero value is ready.
type limiter struct{ times []time.Time }

// next returns how long to wait at now; 0: not at all.
func (l *limiter) next(now time.Time) time.Duration {
	for len(l.times) > 0 && now.Sub(l.times[0]) >= window {
		l.times = l.times[1:]
	}
	if len(l.times) < burst {
		return 0
	}
	return window - now.Sub(l.times[0])
}

// took notes that it was done at now.
func (l *limiter) took(now time.Time) { l.times = append(l.times, now) }
