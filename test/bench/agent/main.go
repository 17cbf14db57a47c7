//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/test/bench/internal/tailscaled"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/internal/program"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

const usage = `Usage: go tool task bench:agent [-- FLAGS]

Measures what tailgate does on a node, on a cluster of one node with a tailnet beside it: what the plugin adds to a
pod's start, how soon a labelled pod reaches a peer, a node with many members and its agent's restart and memory, and
throughput against a sidecar. Needs root, and a machine that does nothing else meanwhile. The exit status says
whether everything could be measured.

`

// settings are the command line.
type settings struct {
	adds, labels, members, storms, restarts, streams, rounds int
	seconds                                                  float64
	settle                                                   time.Duration
	only                                                     *regexp.Regexp
	json, profile, tailscaled                                string
	keep                                                     bool
}

// lasting is how long each transfer is to last.
func (s settings) lasting() time.Duration { return time.Duration(s.seconds * float64(time.Second)) }

func main() {
	peer.MaybeRun()
	traffic.MaybeWork()
	tailscaled.MaybeExec()
	maybeChain()
	program.Main("bench", run)
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&s.adds, "adds", 100, "`number` of pairs of ADDs, for pods that are members and for pods that are not")
	fs.IntVar(&s.labels, "labels", 20, "`number` of pods that are labelled, one after the other")
	fs.IntVar(&s.members, "members", 250, "`number` of pods that join at once")
	fs.IntVar(&s.storms, "storms", 2, "how many `times` they do")
	fs.IntVar(&s.restarts, "restarts", 3, "how many `times` the agent is restarted under them")
	fs.IntVar(&s.streams, "streams", 10, "`number` of members that ping meanwhile, 100 times a second each")
	fs.IntVar(&s.rounds, "rounds", 20, "`number` of rounds of transfers; each moves the same bytes by either way")
	fs.Float64Var(&s.seconds, "seconds", 0.7, "how many `seconds` each transfer lasts, about")
	fs.DurationVar(&s.settle, "settle", 10*time.Second, "`time` without change until the agent's memory is read")
	only := fs.String("only", "", "take the parts whose name matches the `regexp`: "+strings.Join(partNames(), ", "))
	fs.StringVar(&s.json, "json", "", "write all figures to this `file`, too")
	fs.StringVar(&s.profile, "profile", "", "leave profiles of the agent with all members in this `folder`")
	fs.StringVar(&s.tailscaled, "tailscaled", "", "use this `binary` instead of building tailscaled")
	fs.BoolVar(&s.keep, "keep", false, "at the end leave everything up until Ctrl-C")
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	if s.only, err = regexp.Compile(*only); err != nil {
		return s, fmt.Errorf("--only: %w", err)
	}
	return s, s.check()
}

// mostMembers is what fits on a node of a lab beside everything else: its kubelet takes 300 pods.
const mostMembers = 260

func (s settings) check() error {
	counts := []int{s.adds, s.labels, s.members, s.storms, s.restarts, s.streams, s.rounds}
	switch {
	case slices.Min(counts) < 1:
		return errors.New("write at least 1 for each number")
	case s.members > mostMembers:
		return fmt.Errorf("--members %d: a node has room for %d", s.members, mostMembers)
	case s.streams > s.members:
		return fmt.Errorf("--streams %d: write no more than there are members, %d", s.streams, s.members)
	case !(s.seconds > 0 && s.seconds <= 600):
		return errors.New("write seconds above 0 and up to 600")
	case s.settle <= 0:
		return errors.New("write a time above 0 for --settle")
	case len(selected(s.only)) == 0:
		return fmt.Errorf("--only %q matches no part; there are %s", s.only, strings.Join(partNames(), ", "))
	}
	return nil
}

// part is one thing that is measured.
type part struct {
	name string // what --only picks
	run  func(*bench, context.Context) error
}

func parts() []part {
	return []part{{"add", (*bench).adds}, {"label", (*bench).labels}, {"throughput", (*bench).throughput}, {"members", (*bench).many}}
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

func selected(only *regexp.Regexp) []part {
	var picked []part
	for _, p := range parts() {
		if only.MatchString(p.name) {
			picked = append(picked, p)
		}
	}
	return picked
}

// run reports whether everything was measured; the error is one of the bench itself.
func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	s, err := parse(args, out)
	if err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("a cluster in namespaces needs root; run this as root")
	}
	// The tailnet's servers in this process say there what a killed client does to a connection.
	log.SetOutput(io.Discard)
	ctrllog.SetLogger(logr.Discard())
	b := &bench{s: s, out: out, began: time.Now()}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	if err := b.setUp(ctx); err != nil {
		return false, fmt.Errorf("set up: %w", err)
	}
	for _, p := range selected(s.only) {
		b.say("%s", p.name)
		if err := p.run(b, ctx); err != nil {
			if ctx.Err() != nil {
				return false, errors.New("interrupted")
			}
			b.failed = append(b.failed, fmt.Sprintf("%s: %v", p.name, err))
			b.say("FAILED: %v", err)
		}
	}
	if err := b.report(); err != nil {
		return false, err
	}
	if s.keep {
		fmt.Fprintf(out, "\nEverything is still up: go tool task lab:kubectl -- --name=%s get pods -A. Ctrl-C ends it.\n", labName)
		<-ctx.Done()
	}
	return len(b.failed) == 0, nil
}
