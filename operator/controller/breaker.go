package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// How long the tailnet's API is left alone after a failure that the next call would meet as well:
// twice as long after each, up to the longest; and how long others wait for the one who tries then.
const (
	firstPause   = time.Second
	longestPause = time.Minute
	probeTime    = 5 * time.Second
)

// breaker is a Tailnet that fails at once for a while after the API as a whole failed. Without it, each of a
// thousand groups would hold a worker until its own call timed out, and a change of some
// group's configuration would wait behind them all.
type breaker struct {
	Tailnet
	clock clock.PassiveClock

	mu    sync.Mutex
	last  error // the failure that the pause follows; nil: no pause
	until time.Time
	pause time.Duration // the last one
}

// pausedError is why a call was not made.
type pausedError struct {
	err  error // the failure that the pause follows
	wait time.Duration
}

func (e *pausedError) Error() string { return e.err.Error() }
func (e *pausedError) Unwrap() error { return e.err }

func (b *breaker) MintKey(ctx context.Context, r tailnet.KeyRequest) (key tailnet.Key, err error) {
	err = b.do(func() error {
		key, err = b.Tailnet.MintKey(ctx, r)
		return err
	})
	return key, err
}

func (b *breaker) RevokeKey(ctx context.Context, id string) error {
	return b.do(func() error { return b.Tailnet.RevokeKey(ctx, id) })
}

func (b *breaker) DeviceTags(ctx context.Context, id string) (tags []string, err error) {
	err = b.do(func() error {
		tags, err = b.Tailnet.DeviceTags(ctx, id)
		return err
	})
	return tags, err
}

func (b *breaker) DeleteDevice(ctx context.Context, id string) error {
	return b.do(func() error { return b.Tailnet.DeleteDevice(ctx, id) })
}

func (b *breaker) SetTags(ctx context.Context, id string, tags []string) error {
	return b.do(func() error { return b.Tailnet.SetTags(ctx, id, tags) })
}

func (b *breaker) do(call func() error) error {
	if err := b.admit(); err != nil {
		return err
	}
	err := call()
	b.mu.Lock()
	defer b.mu.Unlock()
	var api *tailnet.Error
	switch {
	case err == nil || !errors.As(err, &api) || !concernsAll(api.Reason):
		b.last, b.pause = nil, 0
	case api.Reason == tailnet.Canceled:
		// It was not the API that failed.
	default:
		b.pause = min(max(2*b.pause, firstPause), longestPause)
		b.last, b.until = err, b.clock.Now().Add(max(b.pause, api.RetryAfter))
	}
	return err
}

// admit returns why a call must not be made now, or nil.
func (b *breaker) admit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return nil
	}
	if wait := b.until.Sub(b.clock.Now()); wait > 0 {
		return &pausedError{err: b.last, wait: wait}
	}
	// This one tries; the others wait for what it finds.
	b.until = b.clock.Now().Add(probeTime)
	return nil
}

// concernsAll reports whether a call that failed for the reason says something of other calls.
func concernsAll(r tailnet.Reason) bool {
	switch r {
	case tailnet.CredentialsRefused, tailnet.RateLimited, tailnet.Unavailable, tailnet.Unreachable,
		tailnet.TimedOut, tailnet.BadResponse, tailnet.Canceled:
		return true
	}
	return false
}
