//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// bench is the scene, and what has been measured.
type bench struct {
	s       settings
	out     io.Writer
	rig     *rig.Rig
	peer    *rig.Node
	sides   []*side // ours, theirs
	dir     string
	jobs    uint64
	machine proc.Machine

	// bytes are those of each transfer, by name, rate is in datagrams a second: as calibrated.
	bytes map[string]int64
	rate  int

	results map[string]*stats.Pairs // by the measure's key
	failed  []string
}

// setUp makes the scene: a peer, a subnet router whose routes come and go, both gateways, a member for each.
func setUp(ctx context.Context, s settings, out io.Writer) (b *bench, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute) // building takes long on a new machine
	defer cancel()
	b = &bench{s: s, out: out, bytes: map[string]int64{}, results: map[string]*stats.Pairs{}}
	if b.machine, err = proc.ThisMachine(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "tgbenchdir-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	b.rig, err = rig.New(ctx, rig.Options{
		Prefix: "tgbench", Roles: []rig.Role{rig.Plain, rig.SubnetRouter}, Binary: s.gateway,
	})
	if err == nil {
		err = b.populate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) populate(ctx context.Context) error {
	b.peer = b.rig.Nodes[rig.Plain]
	w, err := traffic.StartWorker(ctx, b.peer.Host)
	if err != nil {
		return err
	}
	if _, err := w.Do(ctx, traffic.Job{Op: traffic.Serve}); err != nil {
		return err
	}
	o, err := newOurs(ctx, b.rig, b.s)
	if err != nil {
		return err
	}
	t, err := newOfficial(ctx, b.rig, b.s, b.dir)
	if err != nil {
		return err
	}
	b.sides = []*side{o, t}
	for _, s := range b.sides {
		if _, err := s.restart(ctx, b.peer.Tail4, func() error { return nil }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) close() error {
	var err error
	if b.rig != nil {
		err = b.rig.Close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

func (b *bench) nextJob() uint64 {
	b.jobs++
	return b.jobs
}

// limit bounds each thing that a worker does, and twice that each step.
func (b *bench) limit() time.Duration { return 30*time.Second + 10*b.s.lasting() }

// calibrate finds how many bytes make a transfer of the length asked for, by the mean of both sides, and
// how many datagrams a second are more than either side delivers. It is the warm-up, too.
func (b *bench) calibrate(ctx context.Context, picked []step) error {
	for _, t := range transfers {
		if !slices.ContainsFunc(picked, func(s step) bool { return s.name == t.name }) {
			continue
		}
		const probe = 64 << 20
		var sum float64 // bytes a second
		for _, s := range b.sides {
			took, err := b.move(ctx, s, t, probe)
			if err != nil {
				return fmt.Errorf("calibrate %s: %s: %w", t.name, s.name, err)
			}
			sum += probe / took.Seconds()
		}
		b.bytes[t.name] = max(int64(sum/2*b.s.seconds), probe/8)
	}
	if !slices.ContainsFunc(picked, func(s step) bool { return s.name == "udp" }) {
		return nil
	}
	for _, s := range b.sides {
		rate, err := b.blast(ctx, s, 0, time.Second)
		if err != nil {
			return fmt.Errorf("calibrate datagrams: %s: %w", s.name, err)
		}
		b.rate = max(b.rate, int(1.5*rate))
	}
	return nil
}

// run measures. What fails is told, and leaves its pair out.
func (b *bench) run(ctx context.Context, picked []step) error {
	var err error
	if b.machine.Busy, err = proc.MeasureBusy(ctx, 2*time.Second); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "Machine: %v.\nCalibrating.\n", b.machine)
	if err := b.calibrate(ctx, picked); err != nil {
		return err
	}
	for n := range b.s.rounds {
		for _, st := range picked {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(b.out, "round %d of %d, %s: ", n+1, b.s.rounds, st.name)
			if err := b.pair(ctx, n, st); err != nil {
				b.failed = append(b.failed, fmt.Sprintf("round %d, %s: %v", n+1, st.name, err))
				fmt.Fprintln(b.out, "FAILED:", err)
			}
		}
	}
	return nil
}

// pair takes one step with one side and then with the other. Every second round begins with the other one, so
// that a machine that gets slower or faster favours nobody.
func (b *bench) pair(ctx context.Context, round int, st step) error {
	order := slices.Clone(b.sides)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	got := map[string]figures{}
	for _, s := range order {
		f, err := b.turn(ctx, s, st)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		got[s.name] = f
	}
	var said []string
	for _, m := range st.measures {
		o, t := got["ours"][m.key], got["theirs"][m.key]
		if o <= 0 || t <= 0 {
			return fmt.Errorf("%s: %v and %v %s cannot be; let each load last longer", m.key, o, t, m.unit)
		}
		if b.results[m.key] == nil {
			b.results[m.key] = &stats.Pairs{}
		}
		b.results[m.key].Add(o, t)
		said = append(said, fmt.Sprintf("%s and %s %s", stats.Figure(o), stats.Figure(t), m.unit))
	}
	fmt.Fprintf(b.out, "%s\n", strings.Join(said, "; "))
	return nil
}

func (b *bench) turn(ctx context.Context, s *side, st step) (figures, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*b.limit())
	defer cancel()
	if !s.running() { // a step before this one failed
		if _, err := s.restart(ctx, b.peer.Tail4, s.kill); err != nil {
			return nil, err
		}
	}
	return st.run(b, ctx, s)
}
