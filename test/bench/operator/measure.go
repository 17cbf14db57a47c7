//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/bench/internal/metrics"
	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

const (
	// quiet is how long counts have to stand still until the operator is at rest. Conflicts are tried again after
	// 200 ms, failures somewhat later.
	quiet = 3 * time.Second
	look  = 100 * time.Millisecond
)

// reading is all counts at one moment.
type reading struct {
	audit   tally
	metrics metrics.Set
	tailnet int64
	cpu     time.Duration
}

// phase is what happened in one part of the run.
type phase struct {
	Name     string  `json:"name"`
	Requests tally   `json:"requests"`
	Client   float64 `json:"requestsByItsMetrics"`
	Tailnet  int64   `json:"tailnetRequests"`
	CPU      float64 `json:"cpuSeconds"`
	// Reconciles are by controller.
	Reconciles map[string]float64 `json:"reconciles"`
	Errors     float64            `json:"reconcileErrors"`
	Memory     memory             `json:"memory"`
}

// memory is a process's, in bytes.
type memory struct {
	proc.Usage
	// Heap is Go's, in use or not collected yet.
	Heap int64 `json:"heap"`
}

func loadAverage() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", fmt.Errorf("read the load average: %w", err)
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " "), nil
}

func (b *bench) read(ctx context.Context) (r reading, err error) {
	if r.metrics, err = metrics.Scrape(ctx, http.DefaultClient, b.op.metrics); err != nil {
		return r, err
	}
	if r.audit, err = b.audit.read(); err != nil {
		return r, err
	}
	r.tailnet = b.calls.count.Load()
	r.cpu, err = proc.CPU(b.op.pid())
	return r, err
}

// begin starts the operator. Its own counts are 0 then.
func (b *bench) begin(ctx context.Context) (err error) {
	if err := b.op.start(ctx); err != nil {
		return err
	}
	b.before = reading{tailnet: b.calls.count.Load()}
	b.before.audit, err = b.audit.read()
	return err
}

// end ends a phase, and the next begins.
func (b *bench) end(ctx context.Context, name string) (phase, error) {
	fail := func(err error) (phase, error) { return phase{}, fmt.Errorf("%s: %w", name, err) }
	if err := b.op.alive(); err != nil {
		return fail(err)
	}
	now, err := b.read(ctx)
	if err != nil {
		return fail(err)
	}
	since := func(metric string, labels ...string) float64 {
		return now.metrics.Sum(metric, labels...) - b.before.metrics.Sum(metric, labels...)
	}
	p := phase{
		Name: name, Requests: now.audit.minus(b.before.audit), Client: since(metricRequests),
		Tailnet: now.tailnet - b.before.tailnet, CPU: (now.cpu - b.before.cpu).Seconds(),
		Reconciles: map[string]float64{}, Errors: since(metricErrors),
	}
	for _, c := range []string{"egressgroup", "egressgateway", "node"} {
		p.Reconciles[c] = since(metricReconciles, "controller", c)
	}
	if p.Memory.Usage, err = proc.MemoryParts(b.op.pid()); err != nil {
		return fail(err)
	}
	p.Memory.Heap = int64(now.metrics.Sum(metricHeap))
	b.before = now
	b.phases = append(b.phases, p)
	fmt.Fprintf(b.out, "%s: %d reads, %d watches, %d writes, %d of the lease, %d to the tailnet; %.1f s CPU; %.1f MB, at most %.1f\n", name,
		p.Requests.reads(), p.Requests.watches(), p.Requests.writes(), p.Requests.leases(), p.Tailnet, p.CPU, float64(p.Memory.RSS)/mega, float64(p.Memory.Peak)/mega)
	if b.s.profile == "" {
		return p, nil
	}
	path, err := b.op.profile(ctx, fmt.Sprintf("%d-%s", len(b.phases), name))
	b.heaps = append(b.heaps, path)
	return p, err
}

// rest waits until the operator has nothing to do, and returns since when. It must have looked at all groups.
func (b *bench) rest(ctx context.Context) (time.Time, error) {
	last, since := -1.0, time.Now()
	for {
		if err := b.op.alive(); err != nil {
			return since, err
		}
		// Before it serves metrics it is not at rest.
		if m, err := metrics.Scrape(ctx, http.DefaultClient, b.op.metrics); err == nil {
			looked := m.Sum(metricReconciles, "controller", "egressgroup") >= float64(b.s.groups)
			if beat := beat(m); beat != last || busy(m) || !looked {
				last, since = beat, time.Now()
			}
			if time.Since(since) >= quiet {
				return since, nil
			}
		}
		if err := pause(ctx, look); err != nil {
			return since, fmt.Errorf("wait until the operator is at rest: %w", err)
		}
	}
}

// measure takes the steps in their order, each with a limit of its own.
func (b *bench) measure(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.first, b.ready, b.steady, b.edits, b.editAll, b.restart} {
		limited, cancel := context.WithTimeout(ctx, b.s.patience+b.s.steady)
		err := step(limited)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// first is the first reconcile of everything.
func (b *bench) first(ctx context.Context) error {
	// The process outlives the step.
	if err := b.begin(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	b.seen.ended = b.op.ended
	observed, err := b.seen.waitGroups(ctx, b.s.groups, "every group is reconciled", func(g groupSeen) bool { return g.first })
	if err != nil {
		return err
	}
	done, err := b.rest(ctx)
	if err != nil {
		return err
	}
	if err := b.complete(ctx); err != nil {
		return err
	}
	p, err := b.end(ctx, "first")
	if err != nil {
		return err
	}
	b.add("first/observed", "first reconcile: every group's status says so", "s", observed.Sub(b.op.began).Seconds(), noGoal)
	b.add("first/rest", "… nothing left to do", "s", done.Sub(b.op.began).Seconds(), noGoal)
	b.addRequests("first", p)
	b.add("first/writes-per-group", "… writes a group", "", float64(p.Requests.writes())/float64(b.s.groups), noGoal)
	b.add("first/tailnet", "… requests to the tailnet API", "", float64(p.Tailnet), noGoal)
	b.addProcess("first", p)
	return nil
}

// complete fails unless every object of every group is there.
func (b *bench) complete(ctx context.Context) error {
	for _, kind := range []schema.GroupVersionKind{
		{Version: "v1", Kind: "SecretList"}, {Version: "v1", Kind: "ConfigMapList"},
		{Version: "v1", Kind: "ServiceAccountList"}, {Group: "apps", Version: "v1", Kind: "DaemonSetList"},
	} {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		if err := b.server.Client.List(ctx, list, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelGroup}); err != nil {
			return fmt.Errorf("count objects: %w", err)
		}
		if len(list.Items) != b.s.groups {
			return fmt.Errorf("count objects: %s has %d items for %d groups", kind.Kind, len(list.Items), b.s.groups)
		}
	}
	if n := len(b.tailnet.Keys()); n != b.s.groups {
		return fmt.Errorf("count auth keys: %d for %d groups", n, b.s.groups)
	}
	return nil
}

// ready lets all gateways run.
func (b *bench) ready(ctx context.Context) error {
	began := time.Now()
	if err := b.reportGateways(ctx); err != nil {
		return err
	}
	reported := time.Now()
	_, err := b.seen.waitGroups(ctx, b.s.groups, "every group is ready", func(g groupSeen) bool { return g.ready })
	if err != nil {
		return err
	}
	done, err := b.rest(ctx)
	if err != nil {
		return err
	}
	p, err := b.end(ctx, "ready")
	b.add("ready/rest", "all gateways become ready: from the last report until nothing is left to do", "s", max(0, done.Sub(reported).Seconds()), noGoal)
	b.add("ready/reporting", "… the reports, by this program, took", "s", reported.Sub(began).Seconds(), noGoal)
	b.addRequests("ready", p)
	b.addProcess("ready", p)
	return err
}

// steady changes nothing.
func (b *bench) steady(ctx context.Context) error {
	if err := pause(ctx, b.s.steady); err != nil {
		return err
	}
	p, err := b.end(ctx, "steady")
	b.add("steady/writes", fmt.Sprintf("nothing changes for %v: writes", b.s.steady), "", float64(p.Requests.writes()), sheet.AtMost(0))
	b.add("steady/reads", "… reads", "", float64(p.Requests.reads()), noGoal)
	b.add("steady/watches", "… watches begun anew", "", float64(p.Requests.watches()), sheet.AtMost(b.renewals()))
	b.add("steady/lease", "… requests for the leader's lease", "", float64(p.Requests.leases()), noGoal)
	b.add("steady/tailnet", "… requests to the tailnet API", "", float64(p.Tailnet), noGoal)
	b.addProcess("steady", p)
	return err
}

// renewals is how often watches may begin anew while nothing changes: clients end each after five to ten minutes.
func (b *bench) renewals() float64 {
	watched := 0
	for what := range b.phases[0].Requests {
		if strings.HasPrefix(what, "watch ") {
			watched++
		}
	}
	const shortest = 5 * time.Minute
	return float64(watched * int(b.s.steady/shortest+1))
}

// edit changes what a group's gateways are told.
func (b *bench) edit(ctx context.Context, i int, accept bool) error {
	g := &v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{Name: groupName(i)}}
	patch := fmt.Appendf(nil, `{"spec":{"acceptRoutes":%t}}`, accept)
	if err := b.server.Client.Patch(ctx, g, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		return fmt.Errorf("edit a group: %w", err)
	}
	return nil
}

// accepts returns what a gateway's configuration says that an edit changes.
func accepts(config string) (bool, error) {
	var c struct{ AcceptRoutes *bool }
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return false, fmt.Errorf("read a gateway's configuration: %w", err)
	}
	if c.AcceptRoutes == nil {
		return false, errors.New("read a gateway's configuration: it does not say whether routes are accepted")
	}
	return *c.AcceptRoutes, nil
}

// edits edits one group after the other.
func (b *bench) edits(ctx context.Context) error {
	var ms []float64
	for n := range b.s.edits {
		i := n * b.s.groups / b.s.edits // more edits than groups: each is edited more than once, at most to and fro
		name := v1alpha1.GroupObjectName(groupName(i))
		before := b.seen.snapshot()[name]
		accept, err := accepts(before.text)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := b.edit(ctx, i, !accept); err != nil {
			return err
		}
		at, err := b.seen.waitConfigs(ctx, map[string]configSeen{name: before})
		if err != nil {
			return err
		}
		ms = append(ms, float64(at.Sub(began).Microseconds())/1000)
	}
	if _, err := b.rest(ctx); err != nil {
		return err
	}
	p, err := b.end(ctx, "edits")
	b.add("edit/median", fmt.Sprintf("one group is edited (%d times): its ConfigMap is written, median", b.s.edits), "ms", stats.Median(ms), noGoal)
	b.add("edit/p99", "… 99th percentile", "ms", stats.Quantile(ms, 0.99), noGoal)
	b.add("edit/writes", "… writes an edit", "", float64(p.Requests.writes())/float64(b.s.edits), noGoal)
	b.add("edit/cpu", "… CPU time an edit", "ms", 1000*p.CPU/float64(b.s.edits), noGoal)
	return err
}

// editAll edits all groups at once.
func (b *bench) editAll(ctx context.Context) error {
	before := b.seen.snapshot()
	began := time.Now()
	err := each(ctx, b.s.groups, func(ctx context.Context, i int) error {
		accept, err := accepts(before[v1alpha1.GroupObjectName(groupName(i))].text)
		if err != nil {
			return err
		}
		return b.edit(ctx, i, !accept)
	})
	if err != nil {
		return err
	}
	edited := time.Now()
	last, err := b.seen.waitConfigs(ctx, before)
	if err != nil {
		return err
	}
	done, err := b.rest(ctx)
	if err != nil {
		return err
	}
	p, err := b.end(ctx, "all-edited")
	b.add("all/last", "all groups are edited at once: from the first edit until the last ConfigMap is written", "s", last.Sub(began).Seconds(), noGoal)
	b.add("all/behind", "… behind the last edit", "s", max(0, last.Sub(edited).Seconds()), noGoal)
	b.add("all/rest", "… from the first edit until nothing is left to do", "s", done.Sub(began).Seconds(), noGoal)
	b.addRequests("all", p)
	b.addProcess("all", p)
	return err
}

// restart ends the operator and starts it again.
func (b *bench) restart(ctx context.Context) error {
	took, err := b.op.stop(ctx)
	if err != nil {
		return err
	}
	if err := b.begin(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := b.op.ready(ctx); err != nil {
		return err
	}
	synced := time.Since(b.op.began)
	done, err := b.rest(ctx)
	if err != nil {
		return err
	}
	p, err := b.end(ctx, "restart")
	b.add("restart/stop", "restart: the operator ends", "s", took.Seconds(), noGoal)
	b.add("restart/synced", "… it has synced", "s", synced.Seconds(), noGoal)
	b.add("restart/rest", "… every group was looked at, and nothing left to do", "s", done.Sub(b.op.began).Seconds(), noGoal)
	b.add("restart/writes", "… writes", "", float64(p.Requests.writes()), sheet.AtMost(0))
	b.add("restart/reads", "… reads", "", float64(p.Requests.reads()), noGoal)
	b.add("restart/tailnet", "… requests to the tailnet API", "", float64(p.Tailnet), noGoal)
	b.addProcess("restart", p)
	return err
}
