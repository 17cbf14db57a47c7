//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/rig"
)

func (d *demo) scale(ctx context.Context) error {
	n := d.s.members
	alone, err := d.agentMetrics(ctx)
	if err != nil {
		return err
	}
	var before []rig.Metrics
	d.check(ctx, fmt.Sprintf("kubectl scale --replicas=%d, from %d", few+1, few), slow, func(ctx context.Context) (string, error) {
		if err := d.scaleTo(ctx, few+1); err != nil {
			return "", err
		}
		before, err = d.agentMetrics(ctx)
		return "for tailgate the start of the new member waited " + waited(alone, before), err
	})
	if before == nil {
		return errors.New("a member more did not come")
	}
	limit := slow + time.Duration(n)*2*time.Second
	if !d.check(ctx, fmt.Sprintf("kubectl scale --replicas=%d, all at once", n), limit, func(ctx context.Context) (string, error) {
		if err := d.scaleTo(ctx, n); err != nil {
			return "", err
		}
		pods, err := d.pods(ctx, payments, payments)
		return fmt.Sprintf("all %d run, %s", n, byNode(pods)), err
	}) {
		return errors.New("there are not the members that it is about")
	}
	d.check(ctx, "all are members", quick, func(ctx context.Context) (string, error) {
		return "they were when their processes started", d.awaitMembers(ctx, payments, n)
	})
	d.check(ctx, "the first packet of each new member reached the peer", quick, func(ctx context.Context) (string, error) {
		return d.firstPackets(ctx, n)
	})
	d.check(ctx, "the tailnet has the devices that it had", quick, func(context.Context) (string, error) {
		return fmt.Sprintf("%d for %d members", len(allDevices), n+2), d.wantDevices(allDevices)
	})
	d.check(ctx, "what all these starts cost the agents", quick, func(ctx context.Context) (string, error) {
		after, err := d.agentMetrics(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s of a processor each; on these busy ones each waited %s", worked(before, after), waited(before, after)), nil
	})
	return nil
}

// scaleTo scales the members of payments, and waits until exactly these run.
func (d *demo) scaleTo(ctx context.Context, n int) error {
	_, err := d.Kubectl(ctx, "scale", "-n", payments, "deployment/"+payments, fmt.Sprintf("--replicas=%d", n))
	if err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) (string, error) {
		var dep appsv1.Deployment
		if err := d.Client.Get(ctx, client.ObjectKey{Namespace: payments, Name: payments}, &dep); err != nil {
			return "", err
		}
		s := dep.Status
		if s.ObservedGeneration == dep.Generation && int(s.ReadyReplicas) == n && int(s.Replicas) == n {
			return "", nil
		}
		return fmt.Sprintf("%d of %d pods are ready", s.ReadyReplicas, s.Replicas), nil
	})
}

// pinged is what a member's log tells of its pings.
type pinged struct {
	first      string // what came of the first; "": nothing yet
	sent, lost int
}

// logs returns what all members of payments log, by the name of the pod. They are read where the kubelet keeps them.
func (d *demo) logs() (map[string]*pinged, error) {
	all := map[string]*pinged{}
	for _, n := range d.Lab.Nodes() {
		files, err := filepath.Glob(n.Path("var/log/pods/" + payments + "_" + payments + "-*/" + app + "/0.log"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			// The folder is called NAMESPACE_POD_UID.
			all[strings.Split(filepath.Base(filepath.Dir(filepath.Dir(f))), "_")[1]] = parseLog(string(text))
		}
	}
	return all, nil
}

// parseLog reads lines such as "2026-11-24T15:00:00Z stdout F 1: from 100.64.0.1 in 1.2ms".
func parseLog(text string) *pinged {
	p := &pinged{}
	for line := range strings.Lines(text) {
		_, said, _ := strings.Cut(strings.TrimSpace(line), " stdout F ")
		number, what, ok := strings.Cut(said, ": ")
		if !ok {
			continue
		}
		p.sent++
		if !strings.HasPrefix(what, "from ") {
			p.lost++
		}
		if number == "1" {
			p.first = what
		}
	}
	return p
}

// firstPackets waits until each new member has told of its first ping, and wants them all to have come back.
func (d *demo) firstPackets(ctx context.Context, members int) (note string, err error) {
	var all map[string]*pinged
	err = until(ctx, func(context.Context) (string, error) {
		if all, err = d.logs(); err != nil {
			return "", err
		}
		told := 0
		for _, p := range all {
			if p.first != "" {
				told++
			}
		}
		if told < members {
			return fmt.Sprintf("%d of %d members have told of theirs", told, members), nil
		}
		return "", nil
	})
	if err != nil {
		return "", err
	}
	var slowest time.Duration
	var errs []error
	for name, p := range all {
		if d.first[name] {
			continue
		}
		_, took, _ := strings.Cut(p.first, " in ")
		t, err := time.ParseDuration(took)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", name, p.first))
		}
		slowest = max(slowest, t)
	}
	return fmt.Sprintf("%d of %d came back, the slowest after %s", members-few-len(errs), members-few, report.Short(slowest)), errors.Join(errs...)
}

// agentMetrics are those of all agents, by node.
func (d *demo) agentMetrics(ctx context.Context) (all []rig.Metrics, err error) {
	for _, n := range d.Lab.Nodes() {
		page, err := rig.GetPage(ctx, d.Rig.World.Core, netip.AddrPortFrom(n.Plan.Addrs[0], 9003), "/metrics")
		if err != nil {
			return nil, err
		}
		m, err := rig.ParseMetrics(string(page))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// waited is how long members' starts waited for the agents between two looks, on average.
func waited(before, after []rig.Metrics) string {
	return each(before, after, "tailgate_agent_cni_request_seconds_sum", added...)
}

// worked is what the agents worked between two looks, for each member that started.
func worked(before, after []rig.Metrics) string {
	return each(before, after, "process_cpu_seconds_total")
}

// added are the labels of the requests that begin members.
var added = []string{`verb="ADD"`, `member="true"`}

// each divides the seconds of a metric by the number of members that started.
func each(before, after []rig.Metrics, name string, labels ...string) string {
	grown := func(name string, labels ...string) (v float64) {
		for i := range after {
			v += after[i].Sum(name, labels...) - before[i].Sum(name, labels...)
		}
		return v
	}
	n := max(grown("tailgate_agent_cni_request_seconds_count", added...), 1)
	return report.Short(time.Duration(grown(name, labels...) / n * float64(time.Second)))
}
