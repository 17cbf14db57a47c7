//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
)

// mega is a million: memory is told in MB of that many bytes, as goals are.
const mega = 1e6

// mostMemory is the goal for the operator's memory, in MB; it must stay below.
const mostMemory = 64

// noGoal is that of figures that are only told.
var noGoal = sheet.Goal{}

// small is the goal of memory.
var small = sheet.Below(mostMemory)

func (b *bench) add(key, name, unit string, value float64, g sheet.Goal) {
	b.lines = append(b.lines, sheet.NewLine(key, name, unit, value, g))
}

func (b *bench) addRequests(key string, p phase) {
	b.add(key+"/writes", "… writes to the API server", "", float64(p.Requests.writes()), noGoal)
	b.add(key+"/reads", "… reads", "", float64(p.Requests.reads()), noGoal)
}

func (b *bench) addProcess(key string, p phase) {
	b.add(key+"/cpu", "… CPU time", "s", p.CPU, noGoal)
	b.add(key+"/rss", "… memory then (VmRSS)", "MB", float64(p.Memory.RSS)/mega, small)
	b.add(key+"/peak", "… the most so far (VmHWM)", "MB", float64(p.Memory.Peak)/mega, small)
}

// printPhases shows what was asked of the API server, and where memory is.
func printPhases(out io.Writer, phases []phase) {
	for _, p := range phases {
		m := p.Memory
		fmt.Fprintf(out, "%s: %s\n", p.Name, p.Requests)
		fmt.Fprintf(out, "  %d requests by the audit log, %.0f by its own metrics; %d to the tailnet; reconciles: %.0f groups, %.0f gateways, %.0f nodes; %.0f errors\n",
			p.Requests.total(), p.Client, p.Tailnet, p.Reconciles["egressgroup"], p.Reconciles["egressgateway"], p.Reconciles["node"], p.Errors)
		fmt.Fprintf(out, "  memory: %.1f MB of its own, %.1f MB of files; Go's heap %.1f MB\n", float64(m.Anon)/mega, float64(m.File)/mega, float64(m.Heap)/mega)
	}
}

// report prints what was measured and, if asked for, writes it.
func (b *bench) report() error {
	after, err := loadAverage()
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n%d groups with %d gateways each, %d nodes, %d pods. Machine: %v; load average %s, at the end %s.\n\n",
		b.s.groups, b.s.gateways, b.s.nodes, b.s.pods, b.machine, b.load, after)
	sheet.Print(b.out, b.lines)
	fmt.Fprint(b.out, "\nRequests to the API server, by phase:\n\n")
	printPhases(b.out, b.phases)
	problems, err := b.problems()
	if err != nil {
		return err
	}
	for _, text := range problems {
		fmt.Fprintln(b.out, "logged:", text)
	}
	for _, path := range b.heaps {
		fmt.Fprintln(b.out, "heap profile:", path)
	}
	if missed := sheet.Unmet(b.lines); len(missed) > 0 {
		fmt.Fprintf(b.out, "Not reached: %v.\n", missed)
	}
	return b.writeJSON(after)
}

// problems returns the first few errors and warnings that the operator logged, and how many there were.
func (b *bench) problems() ([]string, error) {
	text, err := os.ReadFile(b.op.log)
	if err != nil {
		return nil, fmt.Errorf("read the operator's log: %w", err)
	}
	return problemsIn(text), nil
}

func problemsIn(log []byte) []string {
	const most = 5
	var out []string
	n := 0
	for l := range bytes.Lines(log) {
		if !bytes.Contains(l, []byte("level=ERROR")) && !bytes.Contains(l, []byte("level=WARN")) {
			continue
		}
		if n++; n <= most {
			out = append(out, string(bytes.TrimSpace(l)))
		}
	}
	if n > most {
		out = append(out, fmt.Sprintf("and %d more errors and warnings", n-most))
	}
	return out
}

func (b *bench) writeJSON(loadAfter string) error {
	if b.s.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(struct {
		Machine    proc.Machine `json:"machine"`
		LoadBefore string       `json:"loadBefore"`
		LoadAfter  string       `json:"loadAfter"`
		Groups     int          `json:"groups"`
		Gateways   int          `json:"gatewaysPerGroup"`
		Nodes      int          `json:"nodes"`
		Pods       int          `json:"pods"`
		Measures   []sheet.Line `json:"measures"`
		Phases     []phase      `json:"phases"`
	}{b.machine, b.load, loadAfter, b.s.groups, b.s.gateways, b.s.nodes, b.s.pods, b.lines, b.phases}, "", "  ")
	if err == nil {
		err = os.WriteFile(b.s.json, append(raw, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write all figures: %w", err)
	}
	return nil
}
