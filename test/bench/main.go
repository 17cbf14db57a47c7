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
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/bench/internal/tailscaled"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/internal/program"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

const usage = `Usage: go tool task bench [-- FLAGS]

Compares tailgate-gateway with an official tailscaled that is used as a gateway, on a hermetic tailnet in network
namespaces of this machine. Needs root, and a machine that does nothing else meanwhile. The exit status says
whether everything could be measured; with --strict also whether every goal was reached.

`

// settings are the command line.
type settings struct {
	rounds              int
	seconds             float64
	settle              time.Duration
	only                *regexp.Regexp
	json                string
	gateway, tailscaled string
	gatewayEnv          []string
	keep, strict        bool
}

// lasting is how long each load is to last.
func (s settings) lasting() time.Duration { return time.Duration(s.seconds * float64(time.Second)) }

func main() {
	peer.MaybeRun()
	traffic.MaybeWork()
	tailscaled.MaybeExec()
	program.Main("bench", run)
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&s.rounds, "rounds", 7, "`number` of rounds; each measures both sides once")
	fs.Float64Var(&s.seconds, "seconds", 4, "how many `seconds` each load lasts, about")
	fs.DurationVar(&s.settle, "settle", 10*time.Second, "`time` from a start until memory at rest is read")
	only := fs.String("only", "", "take the steps whose name matches the `regexp`: "+strings.Join(stepNames(), ", "))
	fs.StringVar(&s.json, "json", "", "write the raw figures to this `file`")
	fs.StringVar(&s.gateway, "gateway", "", "use this `binary` instead of building tailgate-gateway")
	fs.StringVar(&s.tailscaled, "tailscaled", "", "use this `binary` instead of building tailscaled")
	fs.Func("gateway-env", "run tailgate-gateway with this `KEY=value` in its environment, to try something out; may be repeated", func(v string) error {
		s.gatewayEnv = append(s.gatewayEnv, v)
		return nil
	})
	fs.BoolVar(&s.keep, "keep", false, "at the end leave everything up until Ctrl-C")
	fs.BoolVar(&s.strict, "strict", false, "exit with status 1 if a goal is not reached")
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	if s.rounds < 1 || !(s.seconds > 0 && s.seconds <= 600) {
		return s, errors.New("write at least one round, and seconds above 0 and up to 600")
	}
	if s.only, err = regexp.Compile(*only); err != nil {
		return s, fmt.Errorf("--only: %w", err)
	}
	if len(selected(s.only)) == 0 {
		return s, fmt.Errorf("--only %q matches no step; there are %s", *only, strings.Join(stepNames(), ", "))
	}
	return s, nil
}

// run reports whether everything was measured and, if asked for, every goal reached; the error is one of
// the bench itself.
func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	s, err := parse(args, out)
	if err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("network namespaces need root; run this as root")
	}
	// The tailnet's servers in this process say there what a killed client does to a connection.
	log.SetOutput(io.Discard)
	start := time.Now()
	fmt.Fprintln(out, "tailgate bench: our gateway and an official tailscaled in the same place; ours comes first in every line.")
	b, err := setUp(ctx, s, out)
	if err != nil {
		return false, fmt.Errorf("set up: %w", err)
	}
	defer func() { err = errors.Join(err, b.close()) }()
	picked := selected(s.only)
	if err := b.run(ctx, picked); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		return false, err
	}
	lines, err := b.report(picked)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(out, "\nTook %v.\n", time.Since(start).Round(time.Second))
	missed := unmet(lines)
	if len(missed) > 0 {
		fmt.Fprintf(out, "Not reached: %s.\n", strings.Join(missed, ", "))
	}
	if s.keep {
		b.showAround()
		<-ctx.Done()
	}
	return len(b.failed) == 0 && (!s.strict || len(missed) == 0), nil
}

// showAround says what there is.
func (b *bench) showAround() {
	fmt.Fprint(b.out, "\nEverything is still up. In each line: the gateway's namespace, its process, its LocalAPI socket, its member's namespace.\n\n")
	for _, s := range b.sides {
		fmt.Fprintf(b.out, "  %-6s  %s  %d  %s  %s\n", s.name, s.host.NetNS(), s.pid(), s.localAPI(), s.member.NetNS())
	}
	fmt.Fprintf(b.out, "\nThe peer is %v, in %s. Ctrl-C ends it all.\n", b.peer.Tail4, b.peer.NetNS())
}
