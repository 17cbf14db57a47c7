//go:build linux

package rig

import (
	"context"
	"time"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// What a [Load] sends.
const (
	loadPings  = 10 * time.Millisecond // 100 a second
	loadStream = 2 << 20               // bytes a second
)

// Load is traffic that must not notice what happens meanwhile. Make it with [StartLoad].
type Load struct {
	// Pings are by family, 4 and 6.
	Pings  map[int]*Pinger
	Stream *Stream
}

// StartLoad runs 100 pings a second of both families and a TCP stream from h to a node, and waits until the stream moves. What is
// returned is to be stopped even when there is an error.
func StartLoad(ctx context.Context, h *world.Host, to *Node) (*Load, error) {
	l := &Load{Pings: map[int]*Pinger{}}
	for _, f := range []int{4, 6} {
		p, err := StartPing(ctx, h, to.Tail(f), loadPings)
		if err != nil {
			return l, err
		}
		l.Pings[f] = p
	}
	s, err := StartStream(ctx, h, to.Tail4, loadStream)
	if err != nil {
		return l, err
	}
	l.Stream = s
	return l, s.WaitMoved(ctx)
}

// WaitAll waits until all of it goes on.
func (l *Load) WaitAll(ctx context.Context) error {
	for _, p := range l.Pings {
		if err := p.WaitAnswer(ctx); err != nil {
			return err
		}
	}
	return l.Stream.WaitMoved(ctx)
}

// Stop ends what runs and returns the accounts.
func (l *Load) Stop() (pings map[int]PingStats, stream StreamStats) {
	pings = map[int]PingStats{}
	if l.Stream != nil {
		stream = l.Stream.Stop()
	}
	for f, p := range l.Pings {
		pings[f] = p.Stop()
	}
	return pings, stream
}
