//go:build linux

package main

import (
	"context"
	"fmt"
	"regexp"
)

// goal is what a measure should reach; it says so beside the figure and decides nothing else, unless asked to.
type goal struct {
	// of is what is limited.
	of    goalOf
	limit float64
}

type goalOf int

const (
	noGoal    goalOf = iota
	ratioFrom        // the ratio is at least the limit
	ratioTo          // the ratio is at most the limit
	oursTo           // our own figure is at most the limit
)

// met says whether the goal is reached by the median of the ratios and that of our figures.
func (g goal) met(ratio, ours float64) bool {
	switch g.of {
	case ratioFrom:
		return ratio >= g.limit
	case ratioTo:
		return ratio <= g.limit
	case oursTo:
		return ours <= g.limit
	}
	return true
}

func (g goal) text(unit string) string {
	switch g.of {
	case ratioFrom:
		return fmt.Sprintf("ratio ≥ %.2f", g.limit)
	case ratioTo:
		return fmt.Sprintf("ratio ≤ %.2f", g.limit)
	case oursTo:
		return fmt.Sprintf("ours ≤ %g %s", g.limit, unit)
	}
	return ""
}

// measure is one line of the result.
type measure struct {
	// key names it in the raw figures: the step that gives it, or that with a part behind a slash.
	key, name, unit string
	goal            goal
}

// step is one thing that is done with each side in each round. It gives the figures of its measures.
type step struct {
	name     string // what --only picks
	measures []measure
	run      stepFunc
}

// figures are a step's, by the measure's key.
type figures map[string]float64

func steps() []step {
	all := []step{
		{"ready", []measure{{"ready", "start to the first reply, identity kept", "s", goal{oursTo, 1}}}, (*bench).ready},
		{"idle", []measure{
			{"idle", "memory at rest, RSS", "MB", goal{ratioTo, 0.5}},
			{"idle/pss", "memory at rest, PSS", "MB", goal{}},
		}, (*bench).idle},
		{"rtt", []measure{
			{"rtt", "round trip, median", "µs", goal{}},
			{"rtt/p99", "round trip, 99th percentile", "µs", goal{}},
		}, (*bench).roundTrip},
		{"udp", []measure{{"udp", "64-byte datagrams delivered", "1/s", goal{}}}, (*bench).datagrams},
	}
	for _, t := range transfers {
		all = append(all, t.step())
	}
	return append(all,
		step{"loaded", []measure{
			{"loaded", "memory after the loads, RSS", "MB", goal{ratioTo, 0.5}},
			{"loaded/pss", "memory after the loads, PSS", "MB", goal{}},
		}, (*bench).memory},
		step{"reload", []measure{{"reload", "file change to route changed", "ms", goal{oursTo, 50}}}, (*bench).reload},
		step{"crash", []measure{
			{"crash", "kill -9 and start: gap of the path", "ms", goal{}},
			{"crash/flow", "… of a running flow (20 s: lost)", "ms", goal{}},
		}, (*bench).crash},
		step{"login", []measure{{"login", "first start (login) to the first reply", "s", goal{oursTo, 1}}}, (*bench).login},
		step{"size", []measure{{"size", "binary (and image, on scratch)", "MB", goal{oursTo, 25}}}, (*bench).size},
	)
}

func stepNames() []string {
	var names []string
	for _, s := range steps() {
		names = append(names, s.name)
	}
	return names
}

func selected(only *regexp.Regexp) []step {
	var picked []step
	for _, s := range steps() {
		if only.MatchString(s.name) {
			picked = append(picked, s)
		}
	}
	return picked
}

// transferKind is a way of moving bytes over TCP.
type transferKind struct {
	name    string
	streams int
	down    bool
}

var transfers = []transferKind{
	{"tcp1-up", 1, false}, {"tcp1-down", 1, true}, {"tcp4-up", 4, false}, {"tcp4-down", 4, true},
}

func (t transferKind) step() step {
	says := fmt.Sprintf("TCP, %d streams, ", t.streams)
	if t.streams == 1 {
		says = "TCP, 1 stream, "
	}
	way := "member to peer"
	if t.down {
		way = "peer to member"
	}
	return step{t.name, []measure{
		{t.name, says + way, "Mbit/s", goal{ratioFrom, 1}},
		{t.name + "/cpu", "… the gateway's CPU a GB", "s", goal{ratioTo, 1}},
		{t.name + "/machine", "… the whole machine's CPU a GB", "s", goal{ratioTo, 1}},
	}, func(b *bench, ctx context.Context, s *side) (figures, error) { return b.transfer(ctx, s, t) }}
}
