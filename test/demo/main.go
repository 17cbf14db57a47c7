//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rajsinghtech/tailgate/test/internal/program"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

const usage = `Usage: go tool task demo [-- FLAGS]

Makes a Kubernetes cluster and a tailnet in network namespaces of this machine, installs tailgate, and shows what it
does. Needs root; touches nothing outside its own namespaces.

`

// settings are the command line.
type settings struct {
	keep, verbose bool
	// members is the number of pods to scale to.
	members int
}

// Numbers of members.
const (
	few, quickMany, many, most = 3, 20, 100, 400
)

func main() {
	peer.MaybeRun()
	program.Main("demo", run)
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.BoolVar(&s.keep, "keep", false, "after the checks leave everything up until Ctrl-C, and say how to look around")
	fs.BoolVar(&s.verbose, "verbose", false, "print each step of the cluster's start, too")
	quick := fs.Bool("quick", false, fmt.Sprintf("scale to %d members instead of %d", quickMany, many))
	fs.IntVar(&s.members, "members", 0, fmt.Sprintf("scale to this `number` of members, %d to %d; 0: %d", few+1, most, many))
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	switch {
	case s.members == 0 && *quick:
		s.members = quickMany
	case s.members == 0:
		s.members = many
	case s.members <= few || s.members > most:
		return s, fmt.Errorf("--members %d: write a number from %d to %d", s.members, few+1, most)
	}
	return s, nil
}

// run reports whether all checks passed; the error is one of the demo itself.
func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	s, err := parse(args, out)
	if err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("network namespaces need root; run this as root")
	}
	start := time.Now()
	fmt.Fprintln(out, "tailgate demo: a Kubernetes cluster of two nodes, and a tailnet beside it, in network namespaces of this machine.")
	d, err := setUp(ctx, s, out)
	if err != nil {
		return false, fmt.Errorf("set up: %w", err)
	}
	defer func() { err = errors.Join(err, d.close(context.WithoutCancel(ctx))) }()
	for _, g := range groups() {
		if ctx.Err() != nil {
			break
		}
		d.runGroup(ctx, g)
	}
	if d.Failed > 0 && ctx.Err() == nil {
		d.explain(ctx, out)
	}
	if s.keep && ctx.Err() == nil {
		if err := d.again(ctx); err != nil {
			fmt.Fprintln(out, "\nThe scene is not as it was:", err)
		}
		d.showAround(ctx, out)
		<-ctx.Done()
	}
	if ctx.Err() != nil && !s.keep {
		return false, errors.New("interrupted")
	}
	if !s.keep {
		fmt.Fprint(out, playOn)
	}
	return d.End(start), nil
}
