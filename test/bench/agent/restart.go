//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

const (
	// pingEvery is that of the members that ping: 100 a second.
	pingEvery = 10 * time.Millisecond
	// after is how long they go on once the agent is done.
	after = 2 * time.Second
)

// restart is what one restart took, in seconds.
type restart struct {
	// ended is when the old process had.
	ended time.Time
	// away is from the end of the old process to the start of the new: the kubelet's.
	away float64
	// ready is from the start of the new process until it says that it is ready, joined until it has looked after all members.
	ready, joined float64
	cpu           float64
}

// restarts measures the agent's, under members that ping: the first is a kill -9, the others are those of an upgrade, where the pod
// is replaced.
func (c *crowd) restarts(ctx context.Context) error {
	before, err := c.indices()
	if err != nil {
		return err
	}
	if err := c.control(ctx); err != nil {
		return err
	}
	pings, err := c.startPings(ctx)
	if err != nil {
		return err
	}
	var all []restart
	for n := range c.b.s.restarts {
		end := c.killAgent
		if n > 0 {
			end = c.deleteAgent
		}
		r, err := c.restart(ctx, end)
		if err != nil {
			c.b.stopPings(pings)
			return err
		}
		c.b.say("restart %d of %d (ended %s UTC): away for %.2f s, ready %.2f s after its start, all members looked after at %.2f s, CPU %.2f s",
			n+1, c.b.s.restarts, r.ended.UTC().Format("15:04:05.000"), r.away, r.ready, r.joined, r.cpu)
		all = append(all, r)
	}
	err = rig.Pause(ctx, after)
	sent, lost, gap := c.b.stopPings(pings)
	if err != nil {
		return err
	}
	after, err := c.indices()
	if err != nil {
		return err
	}
	c.tellRestarts(all, sent, lost, gap, changed(before, after))
	return c.b.memory(ctx, "restarted", "agent's memory after a restart")
}

func (c *crowd) tellRestarts(all []restart, sent, lost int, gap time.Duration, relinked int) {
	pick := func(of func(restart) float64) []float64 {
		var xs []float64
		for _, r := range all {
			xs = append(xs, of(r))
		}
		return xs
	}
	add := func(key, name string, g sheet.Goal, xs []float64) {
		c.b.add(key, name+", median", "s", stats.Median(xs), g, xs...)
		if len(xs) > 1 {
			c.b.add(key+"/max", "… longest", "s", slices.Max(xs), g)
		}
	}
	add("restart", fmt.Sprintf("agent's restart with %d members: process start to ready", len(c.hosts)), sheet.AtMost(mostRestart),
		pick(func(r restart) float64 { return r.ready }))
	add("restart/joined", "… until all members are looked after", sheet.Goal{}, pick(func(r restart) float64 { return r.joined }))
	add("restart/away", "… no agent runs: Kubernetes' part", sheet.Goal{}, pick(func(r restart) float64 { return r.away }))
	add("restart/cpu", "… the agent's CPU until then", sheet.Goal{}, pick(func(r restart) float64 { return r.cpu }))
	c.b.add("restart/lost", fmt.Sprintf("… pings lost, of %d by %d members", sent, c.b.s.streams), "", float64(lost), sheet.AtMost(0))
	c.b.add("restart/gap", "… longest time between two replies", "ms", gap.Seconds()*1e3, sheet.Goal{})
	c.b.add("restart/links", "… links of members that were made anew", "", float64(relinked), sheet.AtMost(0))
}

// startPings has some members ping the peer, over IPv4 and IPv6 in turn, and waits until all are answered.
func (c *crowd) startPings(ctx context.Context) ([]*rig.Pinger, error) {
	var pings []*rig.Pinger
	for i, h := range spread(c.hosts, c.b.s.streams) {
		to := []netip.Addr{c.b.peer.Tail4, c.b.peer.Tail6}[i%2]
		if err := rig.Ping(ctx, h, to); err != nil {
			return nil, err
		}
		p, err := rig.StartPing(ctx, h, to, pingEvery)
		if err != nil {
			c.b.stopPings(pings)
			return nil, err
		}
		pings = append(pings, p)
	}
	return pings, nil
}

// control has them ping for a while without a restart: what is lost then is the machine's, not the restart's.
func (c *crowd) control(ctx context.Context) error {
	pings, err := c.startPings(ctx)
	if err != nil {
		return err
	}
	err = rig.Pause(ctx, c.b.s.settle)
	sent, lost, gap := c.b.stopPings(pings)
	if err != nil {
		return err
	}
	c.b.add("control/lost", fmt.Sprintf("no restart: pings lost, of %d by %d members", sent, c.b.s.streams), "", float64(lost), sheet.Goal{})
	c.b.add("control/gap", "… longest time between two replies", "ms", gap.Seconds()*1e3, sheet.Goal{})
	return nil
}

// stopPings ends them and adds up.
func (b *bench) stopPings(pings []*rig.Pinger) (sent, lost int, gap time.Duration) {
	for n, p := range pings {
		s := p.Stop()
		if s.Lost > 0 {
			b.say("member %d of those that ping: %v", n+1, s)
		}
		sent, lost, gap = sent+s.Sent, lost+s.Lost, max(gap, s.Gap)
	}
	return sent, lost, gap
}

// restart ends the agent and waits for the next to be done.
func (c *crowd) restart(ctx context.Context, end func(context.Context, int) error) (r restart, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	old, err := c.b.agentPID()
	if err != nil {
		return r, err
	}
	gone, err := ended(ctx, old, func() error { return end(ctx, old) })
	if err != nil {
		return r, err
	}
	ready, err := c.awaitReady(ctx)
	if err != nil {
		return r, err
	}
	pid, err := c.b.agentPID()
	if err != nil {
		return r, err
	}
	started, err := proc.Started(pid)
	if err != nil {
		return r, err
	}
	if _, err := c.settledLinks(ctx); err != nil {
		return r, err
	}
	done := time.Now()
	cpu, err := proc.CPU(pid)
	return restart{
		ended: gone, away: started.Sub(gone).Seconds(), ready: ready.Sub(started).Seconds(), joined: done.Sub(started).Seconds(), cpu: cpu.Seconds(),
	}, err
}

// ended calls end and returns when the process has ended.
func ended(ctx context.Context, pid int, end func() error) (time.Time, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return time.Time{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := end(); err != nil {
		return time.Time{}, err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 {
			return time.Now(), nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return time.Time{}, fmt.Errorf("wait for the end of process %d: %w", pid, err)
		}
		if err := ctx.Err(); err != nil {
			return time.Time{}, fmt.Errorf("wait for the end of process %d: %w", pid, err)
		}
	}
}

// awaitReady asks every five milliseconds whether the agent is ready.
func (c *crowd) awaitReady(ctx context.Context) (time.Time, error) {
	web := c.b.onNode()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.b.agentURL("readyz"), nil)
		if err != nil {
			return time.Time{}, err
		}
		if resp, err := web.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Now(), nil
			}
		}
		if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
			return time.Time{}, fmt.Errorf("wait for the agent to be ready: %w", err)
		}
	}
}

func (c *crowd) killAgent(_ context.Context, pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill the agent: %w", err)
	}
	return nil
}

func (c *crowd) deleteAgent(ctx context.Context, _ int) error {
	err := c.b.stage.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(stage.Namespace),
		client.MatchingLabels{"app.kubernetes.io/name": "tailgate-agent"})
	if err != nil {
		return fmt.Errorf("delete the agent's pod: %w", err)
	}
	return nil
}
