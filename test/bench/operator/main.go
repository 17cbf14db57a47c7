//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/test/internal/program"
)

const usage = `Usage: go tool task bench:operator [-- FLAGS]

Measures tailgate-operator with many groups, nodes and pods: the first reconcile, requests when nothing changes, a
restart, memory, and the time from an edit to the gateways' configuration. Needs a machine that does little else
meanwhile. The exit status says whether everything could be measured.

`

// settings are the command line.
type settings struct {
	groups, nodes, pods, gateways, edits int
	steady, patience                     time.Duration
	json, binary, profile                string
	env                                  []string
}

func main() {
	program.Main("bench", func(ctx context.Context, args []string, out io.Writer) (bool, error) {
		err := run(ctx, args, out)
		return err == nil, err
	})
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&s.groups, "groups", 1000, "`number` of EgressGroups")
	fs.IntVar(&s.nodes, "nodes", 500, "`number` of nodes")
	fs.IntVar(&s.pods, "pods", 10_000, "`number` of pods in the cluster, spread over the nodes")
	fs.IntVar(&s.gateways, "gateways", 2, "`number` of nodes on which each group has members")
	fs.IntVar(&s.edits, "edits", 50, "`number` of edits of one group")
	fs.DurationVar(&s.steady, "steady", time.Minute, "`time` for which nothing changes")
	fs.DurationVar(&s.patience, "patience", 15*time.Minute, "longest `time` that any step may take")
	fs.StringVar(&s.json, "json", "", "write all figures to this `file`, too")
	fs.StringVar(&s.binary, "operator", "", "use this `binary` instead of building tailgate-operator")
	fs.Func("operator-env", "run tailgate-operator with this `KEY=value` in its environment, to try something out; may be repeated", func(v string) error {
		s.env = append(s.env, v)
		return nil
	})
	fs.StringVar(&s.profile, "profile", "", "build an operator that is profiled, and leave heap profiles in this `folder`")
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	return s, s.check()
}

func (s settings) check() error {
	switch {
	case s.groups < 1 || s.nodes < 1 || s.pods < 0 || s.edits < 1:
		return errors.New("write at least one group, one node and one edit, and no negative number of pods")
	case s.gateways < 0 || s.gateways > s.nodes:
		return fmt.Errorf("--gateways %d: write a number from 0 to that of the nodes, %d", s.gateways, s.nodes)
	case s.steady <= 0 || s.patience <= 0:
		return errors.New("write times above 0 for --steady and --patience")
	case s.binary != "" && s.profile != "":
		return errors.New("--profile builds a binary of its own; remove --operator")
	}
	return nil
}

// run returns an error if something could not be measured.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	// The tailnet's server in this process says there what a killed client does to a connection.
	log.SetOutput(io.Discard)
	ctrllog.SetLogger(logr.Discard())
	began := time.Now()
	fmt.Fprintf(out, "tailgate operator bench: %d groups with %d gateways each, %d nodes, %d pods.\n", s.groups, s.gateways, s.nodes, s.pods)
	b := &bench{s: s, out: out}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, do := range []func(context.Context) error{b.setUp, b.populate, b.measure} {
		if err := do(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return errors.Join(err, b.failure())
		}
	}
	if err := b.report(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nTook %v.\n", time.Since(began).Round(time.Second))
	return nil
}
