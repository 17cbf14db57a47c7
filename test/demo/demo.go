//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// Limits of what a check may take.
const (
	quick = 10 * time.Second
	slow  = time.Minute
)

// The groups of deploy/examples, and the nodes.
const (
	payments = "payments"
	peers    = "peers"
	n1, n2   = "n1", "n2"
)

// lab is the cluster's name.
const labName = "demo"

// demo is the scene.
type demo struct {
	*report.Report
	*stage.Stage
	s settings
	// member is a pod of payments, and other one of peers, both on n1. outsider is in the namespace of member, and in no group.
	member, other, outsider *pod
	// first are the names of the members from before the scaling.
	first map[string]bool

	open []*netns.Handle
}

// group is a set of checks under one heading. Each goes on from where the one before it ended.
type group struct {
	title, says string
	run         func(*demo, context.Context) error
}

func groups() []group {
	return []group{
		{"Groups", "two EgressGroups, and pods that they select.", (*demo).begin},
		{"Reach", "a member reaches all that the tailnet offers, as its group's device. No pod was changed.", (*demo).reach},
		{"Cluster", "what was reached before is reached as before.", (*demo).cluster},
		{"Scale", "more members are no more devices.", (*demo).scale},
		{"Live", "groups and pods change while they run, and no packet is lost.", (*demo).live},
		{"Failures", "connections outlive the gateway's process, and nobody notices that agents are replaced.", (*demo).failures},
		{"End", "what is not wanted any longer goes, in the cluster and in the tailnet.", (*demo).end},
	}
}

// setUp makes the cluster and the tailnet, and installs tailgate.
func setUp(ctx context.Context, s settings, out io.Writer) (*demo, error) {
	fmt.Fprintln(out, "\nSet up:")
	st, err := stage.Up(ctx, stage.Options{
		Name: labName, Family: lab.Dual, Out: out, Brief: !s.verbose,
		Tags: []string{"tag:egress-" + payments, "tag:egress-" + peers},
		// The demo shows that a gateway goes with its last member, and does not want to wait for that.
		Values: []string{"agent.gatewayLinger=2s"},
	})
	if err != nil {
		return nil, err
	}
	return &demo{Report: report.New(out), Stage: st, s: s}, nil
}

// close ends all of it.
func (d *demo) close(ctx context.Context) error {
	d.leavePods()
	return d.Down(ctx)
}

// check runs one check and prints it; f returns what is worth saying.
func (d *demo) check(ctx context.Context, what string, limit time.Duration, f func(context.Context) (note string, err error)) bool {
	return d.Check(ctx, report.Line{What: what}, limit, f)
}

// see is check for what has nothing more to say.
func (d *demo) see(ctx context.Context, what string, f func(context.Context) error) {
	d.check(ctx, what, quick, func(ctx context.Context) (string, error) { return "", f(ctx) })
}

func (d *demo) runGroup(ctx context.Context, g group) {
	d.Heading(g.title, g.says)
	if err := g.run(d, ctx); err != nil && ctx.Err() == nil {
		d.Print(report.Line{What: "the group could not go on"}, 0, "", err)
	}
}

// explain shows what tailgate's pods say.
func (d *demo) explain(ctx context.Context, out io.Writer) {
	for _, args := range [][]string{
		{"get", "eg,egw,pods", "-A", "-o", "wide"},
		{"logs", "-n", stage.Namespace, "-l", "app.kubernetes.io/part-of=tailgate", "--prefix", "--tail=15"},
	} {
		text, err := d.Kubectl(ctx, args...)
		fmt.Fprintf(out, "\nkubectl %s\n%s", strings.Join(args, " "), text)
		if err != nil {
			fmt.Fprintln(out, err)
		}
	}
}

// families runs f for IPv4 and for IPv6.
func families(f func(family int)) {
	for _, family := range []int{4, 6} {
		f(family)
	}
}

// try runs f again, each time within a second, until it succeeds or ctx ends.
func try(ctx context.Context, f func(context.Context) error) error {
	return rig.Retry(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return f(ctx)
	})
}

// until asks, some times a second, whether something has come about; missing says what has not.
func until(ctx context.Context, look func(context.Context) (missing string, err error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		missing, err := look(ctx)
		if err == nil && missing == "" {
			return nil
		}
		if err == nil {
			err = errors.New(missing)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
