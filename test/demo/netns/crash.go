//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rajsinghtech/tailgate/test/rig"
)

// Goals of the interruption, and from where on it is a failure. The interruption is what pings see; TCP's own timer, which
// doubles with each try (RFC 6298), may find it over up to a few times later.
const (
	tcpLater = 3

	killGoal, killLimit     = 200 * time.Millisecond, time.Second
	frozenGoal, frozenLimit = 5 * time.Second, 10 * time.Second
	frozenFor, frozenQuick  = time.Minute, 10 * time.Second
)

func (d *demo) crash(ctx context.Context) error {
	if err := d.restartUnder(ctx, "kill -9 and start", killGoal, killLimit); err != nil {
		return err
	}
	d.rig.Tailnet.Freeze()
	defer d.rig.Tailnet.Thaw()
	if err := d.untouched(ctx); err != nil {
		return err
	}
	if err := d.restartUnder(ctx, "kill -9 and start, control plane frozen", frozenGoal, frozenLimit); err != nil {
		return err
	}
	families(func(f int) {
		l := line{"exit-member", "internet", "HTTP", f, "after that start, still frozen: through exit-a"}
		d.check(ctx, l, quick, func(ctx context.Context) (string, error) {
			return "", try(ctx, func(ctx context.Context) error {
				return d.seenFrom(ctx, d.exitMember.Host, f, d.rig.Nodes[rig.ExitA].Host)
			})
		})
	})
	d.check(ctx, line{"gateway", "control", "-", 0, "control plane thawed: ready, and online again"}, slow, func(ctx context.Context) (string, error) {
		d.rig.Tailnet.Thaw()
		_, err := d.gw.WaitReady(ctx)
		if err == nil {
			_, err = d.rig.Tailnet.WaitNode(ctx, d.gw.Name)
		}
		return "", err
	})
	return nil
}

// restartUnder kills the gateway under load and starts it again at once.
func (d *demo) restartUnder(ctx context.Context, what string, goal, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, slow+limit)
	defer cancel()
	l, err := d.startLoad(ctx)
	if err != nil {
		l.Stop()
		return err
	}
	err = rig.Pause(ctx, time.Second)
	start := time.Now()
	err = errors.Join(err, d.gw.Kill(), d.gw.Start(ctx))
	d.check(ctx, line{"member", "peer", "-", 0, what + ": all flows go on"}, limit+quick, func(ctx context.Context) (string, error) {
		if err != nil {
			return "", err
		}
		return "", l.WaitAll(ctx)
	})
	_, err = d.gw.WaitReady(ctx)
	ready := time.Since(start)
	err = errors.Join(err, rig.Pause(ctx, time.Second)) // what comes late shows
	pings, stream := l.Stop()
	verdict := func(gap, limit time.Duration) (string, error) {
		note := fmt.Sprintf("gap %v, goal %v", short(gap), goal)
		if gap > limit {
			return "", fmt.Errorf("%s, limit %v", note, limit)
		}
		return note, nil
	}
	families(func(f int) {
		d.check(ctx, line{"member", "peer", "ICMP", f, what}, quick, func(context.Context) (string, error) {
			note, err := verdict(pings[f].Gap, limit)
			return fmt.Sprintf("%s; %d pings lost", note, pings[f].Lost), err
		})
	})
	d.check(ctx, line{"member", "peer", "TCP", 4, what}, quick, func(context.Context) (string, error) {
		note, err := verdict(stream.Stall, tcpLater*limit)
		return fmt.Sprintf("%s; the connection survived, %v", note, stream), errors.Join(err, stream.Err)
	})
	d.check(ctx, line{"demo", "gateway", "-", 0, what}, quick, func(context.Context) (string, error) {
		return fmt.Sprintf("ready %v after the kill", short(ready)), err
	})
	return nil
}

// untouched: the control plane says nothing for a minute, and no flow notices.
func (d *demo) untouched(ctx context.Context) error {
	span := frozenFor
	if d.s.quick {
		span = frozenQuick
	}
	l, err := d.startLoad(ctx)
	err = errors.Join(err, rig.Pause(ctx, span))
	pings, stream := l.Stop()
	what := fmt.Sprintf("control plane frozen for %v", span)
	families(func(f int) {
		d.check(ctx, line{"member", "peer", "ICMP", f, what}, quick, func(context.Context) (string, error) {
			if p := pings[f]; p.Lost > 0 {
				return "", fmt.Errorf("%d lost: %v", p.Lost, p)
			}
			return pings[f].String(), nil
		})
	})
	d.check(ctx, line{"member", "peer", "TCP", 4, what}, quick, func(context.Context) (string, error) {
		if stream.Lost() > 0 {
			return "", fmt.Errorf("segments were lost: %v", stream)
		}
		return stream.String(), stream.Err
	})
	return err
}
