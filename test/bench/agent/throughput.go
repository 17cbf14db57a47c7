//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"tailscale.com/client/local"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/bench/internal/tailscaled"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Goals of ratios, ours by theirs.
const (
	leastThroughput = 0.95
	mostCPU         = 1.0
)

// way is a pod, and how it reaches the tailnet.
type way struct {
	name   string
	worker *traffic.Worker
	// pid is the process that carries the traffic, socket its LocalAPI.
	pid    int
	socket string
}

// direction is of the bytes.
type direction struct {
	key, name string
	down      bool
	bytes     int64

	rate, cpu, machine stats.Pairs
}

// throughput compares a member with a pod of the same kind that has an official tailscaled as a sidecar.
func (b *bench) throughput(ctx context.Context) error {
	server, err := traffic.StartWorker(ctx, b.peer.Host)
	if err != nil {
		return err
	}
	if _, err := server.Do(ctx, traffic.Job{Op: traffic.Serve}); err != nil {
		return err
	}
	ours, err := b.member(ctx)
	if err != nil {
		return err
	}
	theirs, err := b.sidecar(ctx)
	if err != nil {
		return err
	}
	t := &transfers{b: b, ways: []*way{ours, theirs}}
	return errors.Join(t.run(ctx), b.endAll())
}

// Containers of pods that send: the app's, and the sidecar's, which has the resources of a gateway.
const (
	appContainer     = "app"
	sidecarContainer = "tailscaled"
)

// sender starts a pod whose app container has a share of the CPUs as apps have. The processes that play its containers are put into the
// containers' control groups: what competes for the CPUs is the same in both pods.
func (b *bench) sender(ctx context.Context, name string, labels map[string]string, sidecar *corev1.ResourceRequirements) (*corev1.Pod, *world.Host, *traffic.Worker, error) {
	pod := newPod(namespaceLive, name, labels)
	app := &pod.Spec.Containers[0]
	app.Name = appContainer
	app.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	if sidecar != nil {
		more := *app.DeepCopy()
		more.Name, more.Resources = sidecarContainer, *sidecar.DeepCopy()
		pod.Spec.Containers = append(pod.Spec.Containers, more)
	}
	if err := b.startPods(ctx, pod); err != nil {
		return nil, nil, nil, err
	}
	h, err := b.host(ctx, pod)
	if err != nil {
		return nil, nil, nil, err
	}
	w, err := traffic.StartWorker(ctx, h)
	if err != nil {
		return nil, nil, nil, err
	}
	b.ends = append(b.ends, w.Stop)
	return pod, h, w, moveInto(w.PID(), pod, appContainer)
}

// member is a pod that tailgate serves.
func (b *bench) member(ctx context.Context) (*way, error) {
	_, h, worker, err := b.sender(ctx, "with-tailgate", memberLabel, nil)
	if err != nil {
		return nil, err
	}
	w := &way{name: "ours", worker: worker, socket: b.gatewaySocket()}
	if w.pid, err = findProcess("tailgate-gateway", b.gateway.Handle()); err != nil {
		return nil, err
	}
	return w, b.reach(ctx, h)
}

// sidecar is a pod in whose network namespace an official tailscaled runs, as a sidecar with a kernel TUN does.
func (b *bench) sidecar(ctx context.Context) (*way, error) {
	pod, h, worker, err := b.sender(ctx, "with-sidecar", nil, &b.gatewayPod.Spec.Containers[0].Resources)
	if err != nil {
		return nil, err
	}
	t := b.stage.Rig.Tailnet
	key := t.CreateKey(tailnet.KeyOptions{Reusable: true, Preauthorized: true, Tags: []string{rig.Tag}})
	p, err := tailscaled.New(ctx, tailscaled.Options{Host: h, Binary: b.s.tailscaled, Dir: b.dir, Conf: ipn.ConfigVAlpha{
		Version: "alpha0", Locked: opt.NewBool(false), ServerURL: new(t.ControlURL()), Hostname: new(h.Name), AuthKey: new(key.Secret),
		AcceptRoutes: opt.NewBool(true), AcceptDNS: opt.NewBool(false),
	}})
	if err != nil {
		return nil, err
	}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	b.ends = append(b.ends, p.Stop)
	err = moveInto(p.PID(), pod, sidecarContainer)
	if err == nil {
		err = b.reach(ctx, h)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; tailscaled says:\n%s", err, p.Log())
	}
	return &way{name: "theirs", worker: worker, pid: p.PID(), socket: p.LocalAPI()}, nil
}

// transfers moves bytes by either way.
type transfers struct {
	b    *bench
	ways []*way // ours, theirs
	jobs uint64
}

func (t *transfers) run(ctx context.Context) error {
	directions := []*direction{{key: "up", name: "pod to peer"}, {key: "down", name: "peer to pod", down: true}}
	for _, d := range directions {
		if err := t.calibrate(ctx, d); err != nil {
			return fmt.Errorf("calibrate %s: %w", d.name, err)
		}
	}
	for n := range t.b.s.rounds {
		for _, d := range directions {
			if err := t.pair(ctx, n, d); err != nil {
				return fmt.Errorf("%s, round %d: %w", d.name, n+1, err)
			}
		}
	}
	for _, d := range directions {
		t.tell(d)
	}
	return nil
}

// calibrate finds how many bytes make a transfer of the length asked for, by the mean of both ways. It is the warm-up, too.
func (t *transfers) calibrate(ctx context.Context, d *direction) error {
	const probe = 64 << 20
	var sum float64 // bytes a second
	for _, w := range t.ways {
		if err := t.awaitDirect(ctx, w); err != nil {
			return err
		}
		took, err := t.move(ctx, w, d, probe)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		sum += probe / took.Seconds()
	}
	d.bytes = max(int64(sum/2*t.b.s.seconds), probe/8)
	return nil
}

// awaitDirect waits until the engine sends to the peer without the relay, which it finds a way to while there is traffic.
func (t *transfers) awaitDirect(ctx context.Context, w *way) error {
	peer := t.b.peer.Tail4
	c := &local.Client{Socket: w.socket, UseSocketOnly: true}
	return await(ctx, time.Minute, often, w.name+" to have a direct path", func() (bool, error) {
		if _, err := w.worker.Do(ctx, traffic.Job{Op: traffic.Ping, To: peer, Count: 5, Interval: 10 * time.Millisecond, Limit: 10 * time.Second}); err != nil {
			return false, err
		}
		st, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, p := range st.Peer {
			if p.CurAddr != "" && slices.Contains(p.TailscaleIPs, peer) {
				return true, nil
			}
		}
		return false, nil
	})
}

func (t *transfers) move(ctx context.Context, w *way, d *direction, n int64) (time.Duration, error) {
	t.jobs++
	r, err := w.worker.Do(ctx, traffic.Job{
		Op: traffic.Transfer, ID: t.jobs, To: t.b.peer.Tail4, Streams: 1, Down: d.down, Bytes: n, Limit: 30*time.Second + 10*t.b.s.lasting(),
	})
	return r.Took, err
}

// figures are of one transfer: Mbit/s, and CPU seconds a GB of the process that carries it and of the whole machine.
type figures struct{ rate, cpu, machine float64 }

// pair moves the bytes by one way and then by the other; every second round begins with the other one.
func (t *transfers) pair(ctx context.Context, round int, d *direction) error {
	order := slices.Clone(t.ways)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	got := map[*way]figures{}
	for _, w := range order {
		f, err := t.measure(ctx, w, d)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		got[w] = f
	}
	o, th := got[t.ways[0]], got[t.ways[1]]
	t.b.say("round %d of %d, %s: %.0f and %.0f Mbit/s, CPU a GB %.2f and %.2f s, of the machine %.2f and %.2f s",
		round+1, t.b.s.rounds, d.name, o.rate, th.rate, o.cpu, th.cpu, o.machine, th.machine)
	if min(o.rate, th.rate, o.cpu, th.cpu) <= 0 {
		return errors.New("a figure of 0 cannot be; let each transfer last longer")
	}
	d.rate.Add(o.rate, th.rate)
	d.cpu.Add(o.cpu, th.cpu)
	d.machine.Add(o.machine, th.machine)
	return nil
}

func (t *transfers) measure(ctx context.Context, w *way, d *direction) (f figures, err error) {
	if err := t.awaitDirect(ctx, w); err != nil {
		return f, err
	}
	process, err := proc.CPU(w.pid)
	if err != nil {
		return f, err
	}
	whole, err := proc.MachineCPU()
	if err != nil {
		return f, err
	}
	took, err := t.move(ctx, w, d, d.bytes)
	if err != nil {
		return f, err
	}
	processAfter, err := proc.CPU(w.pid)
	if err != nil {
		return f, err
	}
	wholeAfter, err := proc.MachineCPU()
	gb := float64(d.bytes) / giga
	return figures{
		rate: float64(d.bytes) / took.Seconds() / megabit, cpu: (processAfter - process).Seconds() / gb, machine: (wholeAfter - whole).Seconds() / gb,
	}, err
}

// tell notes the ratios, and what they are of.
func (t *transfers) tell(d *direction) {
	key := "tcp/" + d.key
	for _, m := range []struct {
		key, name, unit string
		pairs           stats.Pairs
		goal            sheet.Goal
	}{
		{key, "TCP, 1 stream, " + d.name, "Mbit/s", d.rate, sheet.AtLeast(leastThroughput)},
		{key + "/cpu", "… CPU a GB of gateway or tailscaled", "s", d.cpu, sheet.AtMost(mostCPU)},
		{key + "/machine", "… CPU a GB of the whole machine", "s", d.machine, sheet.AtMost(mostCPU)},
	} {
		ratios := m.pairs.Ratios()
		name := fmt.Sprintf("%s: %s by %s %s; ratio, median (%.2f to %.2f)", m.name, stats.Figure(stats.Median(m.pairs.Ours)),
			stats.Figure(stats.Median(m.pairs.Theirs)), m.unit, slices.Min(ratios), slices.Max(ratios))
		t.b.add(m.key, name, "", stats.Median(ratios), m.goal, ratios...)
	}
}
