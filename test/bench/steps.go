//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/rig"
)

const (
	// pingEvery is the resolution of what ends with a reply.
	pingEvery = 5 * time.Millisecond
	// crashPingEvery is that of the gap: 100 a second.
	crashPingEvery = 10 * time.Millisecond
	// The round trips that are measured.
	pingCount = 500
	// flowGivenUp is when a running flow that was interrupted counts as lost.
	flowGivenUp = 20 * time.Second
	// reloads is how many changes of the file make one figure.
	reloads = 10
	megabit = 1e6 / 8
	mega    = 1e6
	giga    = 1e9
)

// stepFunc is one side's turn.
type stepFunc func(b *bench, ctx context.Context, s *side) (figures, error)

// ready restarts the gateway in good order; it finds its identity again.
func (b *bench) ready(ctx context.Context, s *side) (figures, error) {
	took, err := s.restart(ctx, b.peer.Tail4, s.stop)
	return figures{"ready": took.Seconds()}, err
}

// login starts the gateway as on a new node. The old device is deleted as an operator would do it, so
// that the tailnet has as many nodes in the last round as in the first.
func (b *bench) login(ctx context.Context, s *side) (figures, error) {
	id, err := s.id(ctx)
	if err != nil {
		return nil, err
	}
	took, err := s.restart(ctx, b.peer.Tail4, func() error {
		if err := s.stop(); err != nil {
			return err
		}
		if !b.rig.Tailnet.DeleteNode(tailcfg.StableNodeID(id)) {
			return fmt.Errorf("the tailnet does not know %s by its ID %s", s.name, id)
		}
		return s.forget()
	})
	return figures{"login": took.Seconds()}, err
}

// idle is the memory of a gateway that has carried a few pings only, some time after its start: the
// settling time is for the garbage collector, which gives memory back in the background.
func (b *bench) idle(ctx context.Context, s *side) (figures, error) {
	if s.loaded {
		if _, err := s.restart(ctx, b.peer.Tail4, s.stop); err != nil {
			return nil, err
		}
	}
	if err := s.awaitDirect(ctx, b.peer.Tail4); err != nil {
		return nil, err
	}
	settled := time.NewTimer(time.Until(s.started.Add(b.s.settle)))
	defer settled.Stop()
	select {
	case <-settled.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("let memory settle: %w", ctx.Err())
	}
	return memoryFigures("idle", s.pid())
}

// memory is what the loads of this round have left, at once after the last of them.
func (b *bench) memory(_ context.Context, s *side) (figures, error) {
	return memoryFigures("loaded", s.pid())
}

func memoryFigures(key string, pid int) (figures, error) {
	rss, pss, err := proc.Memory(pid)
	return figures{key: float64(rss) / mega, key + "/pss": float64(pss) / mega}, err
}

func (b *bench) roundTrip(ctx context.Context, s *side) (figures, error) {
	if err := s.awaitDirect(ctx, b.peer.Tail4); err != nil {
		return nil, err
	}
	r, err := s.worker.Do(ctx, traffic.Job{Op: traffic.Ping, To: b.peer.Tail4, Count: pingCount, Interval: pingEvery, Limit: b.limit()})
	if err == nil && r.Received < r.Sent*99/100 {
		err = fmt.Errorf("only %d of %d pings came back", r.Received, r.Sent)
	}
	if err != nil {
		return nil, err
	}
	var us []float64
	for _, d := range r.RoundTrips {
		us = append(us, float64(d)/float64(time.Microsecond))
	}
	return figures{"rtt": stats.Median(us), "rtt/p99": stats.Quantile(us, 0.99)}, nil
}

// datagrams sends more small datagrams than arrive, and counts those that do.
func (b *bench) datagrams(ctx context.Context, s *side) (figures, error) {
	if b.rate == 0 {
		return nil, errors.New("not calibrated")
	}
	rate, err := b.blast(ctx, s, b.rate, b.s.lasting())
	return figures{"udp": rate}, err
}

// blast returns the datagrams delivered a second.
func (b *bench) blast(ctx context.Context, s *side, rate int, lasting time.Duration) (float64, error) {
	if err := s.awaitDirect(ctx, b.peer.Tail4); err != nil {
		return 0, err
	}
	s.loaded = true
	r, err := s.worker.Do(ctx, traffic.Job{Op: traffic.Blast, ID: b.nextJob(), To: b.peer.Tail4, Rate: rate, Lasting: lasting, Limit: b.limit()})
	if err != nil {
		return 0, err
	}
	return float64(r.Received) / r.Took.Seconds(), nil
}

// transfer moves the same number of bytes in every round and by either side, so that the CPU time
// spent on them compares.
func (b *bench) transfer(ctx context.Context, s *side, t transferKind) (figures, error) {
	n := b.bytes[t.name]
	if n == 0 {
		return nil, errors.New("not calibrated")
	}
	process, err := proc.CPU(s.pid())
	if err != nil {
		return nil, err
	}
	whole, err := proc.MachineCPU()
	if err != nil {
		return nil, err
	}
	took, err := b.move(ctx, s, t, n)
	if err != nil {
		return nil, err
	}
	processAfter, err := proc.CPU(s.pid())
	if err != nil {
		return nil, err
	}
	wholeAfter, err := proc.MachineCPU()
	return figures{
		t.name:              float64(n) / took.Seconds() / megabit,
		t.name + "/cpu":     (processAfter - process).Seconds() / (float64(n) / giga),
		t.name + "/machine": (wholeAfter - whole).Seconds() / (float64(n) / giga),
	}, err
}

func (b *bench) move(ctx context.Context, s *side, t transferKind, n int64) (time.Duration, error) {
	if err := s.awaitDirect(ctx, b.peer.Tail4); err != nil {
		return 0, err
	}
	s.loaded = true
	r, err := s.worker.Do(ctx, traffic.Job{
		Op: traffic.Transfer, ID: b.nextJob(), To: b.peer.Tail4, Streams: t.streams, Down: t.down, Bytes: n, Limit: b.limit(),
	})
	return r.Took, err
}

// reload takes the subnet router's routes off and on again by the configuration file. It ends
// when the kernel's routing table shows it, which is the one thing that both sides do.
func (b *bench) reload(ctx context.Context, s *side) (figures, error) {
	change := func(on, there bool) (time.Duration, error) {
		return s.routeChange(ctx, rig.SubnetV4, on, there, func() error { return s.acceptRoutes(ctx, on) })
	}
	if _, err := change(true, true); err != nil { // a start may have been a moment ago
		return nil, err
	}
	var ms []float64
	for i := range reloads {
		took, err := change(i%2 == 1, false)
		if err != nil {
			return nil, err
		}
		ms = append(ms, took.Seconds()*1e3)
	}
	return figures{"reload": stats.Median(ms)}, nil
}

// crash kills the gateway under pings and starts it again at once, as a kubelet does at the first crash. The gap is
// that of pings each of which is a new flow, and that of one running flow, which may not come back at all.
func (b *bench) crash(ctx context.Context, s *side) (figures, error) {
	if err := s.awaitDirect(ctx, b.peer.Tail4); err != nil {
		return nil, err
	}
	flow, err := rig.StartPing(ctx, s.member, b.peer.Tail4, crashPingEvery)
	if err != nil {
		return nil, err
	}
	defer flow.Stop()
	path, err := traffic.StartProbes(ctx, s.member, b.peer.Tail4, crashPingEvery)
	if err != nil {
		return nil, err
	}
	defer path.Stop()
	if err := errors.Join(flow.WaitAnswer(ctx), path.Wait(ctx)); err != nil {
		return nil, err
	}
	killed := time.Now()
	if _, err := s.restart(ctx, b.peer.Tail4, s.kill); err != nil {
		return nil, err
	}
	if err := path.Wait(ctx); err != nil {
		return nil, err
	}
	back, cancel := context.WithDeadline(ctx, killed.Add(flowGivenUp))
	defer cancel()
	gap := flowGivenUp
	if err := flow.WaitAnswer(back); err == nil {
		gap = min(flow.Stats().Gap, flowGivenUp)
	} else if ctx.Err() != nil {
		return nil, err
	}
	return figures{"crash": path.Stop().Seconds() * 1e3, "crash/flow": gap.Seconds() * 1e3}, nil
}

func (b *bench) size(_ context.Context, s *side) (figures, error) {
	fi, err := os.Stat(s.binary())
	if err != nil {
		return nil, fmt.Errorf("measure the binary: %w", err)
	}
	return figures{"size": float64(fi.Size()) / mega}, nil
}
