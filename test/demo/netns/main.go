//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/internal/program"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

const usage = `Usage: go tool task demo:netns [-- FLAGS]

Makes a hermetic tailnet, a gateway, members and a neighbour in network namespaces of this machine, and
checks what must work and what must not. Needs root; touches nothing outside its own namespaces.

`

// settings are the command line.
type settings struct {
	keep, verbose, quick bool
	only                 *regexp.Regexp
	gateway              string
	members              int
}

func main() {
	peer.MaybeRun()
	program.Main("demo:netns", run)
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("demo:netns", flag.ContinueOnError)
	fs.BoolVar(&s.keep, "keep", false, "after the checks leave everything up until Ctrl-C, and say how to look around")
	fs.BoolVar(&s.verbose, "verbose", false, "print the gateway's log as it comes, the engine's lines among it")
	fs.BoolVar(&s.quick, "quick", false, "freeze the control plane for 10 seconds instead of a minute, and join 1000 members instead of 10000")
	only := fs.String("only", "", "run the groups whose name matches the `regexp`: "+strings.Join(groupNames(), ", "))
	fs.StringVar(&s.gateway, "gateway", "", "use this `binary` instead of building tailgate-gateway")
	fs.IntVar(&s.members, "members", 0, "join and take out this `number` of members, a hundred at a time; 0: 10000, which takes two minutes")
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	switch {
	case s.members < 0:
		return s, fmt.Errorf("--members %d: write a number from 1 on", s.members)
	case s.members == 0 && s.quick:
		s.members = 1000
	case s.members == 0:
		s.members = 10_000
	}
	if s.only, err = regexp.Compile(*only); err != nil {
		return s, fmt.Errorf("--only: %w", err)
	}
	if len(selected(s.only)) == 0 {
		return s, fmt.Errorf("--only %q matches no group; there are %s", *only, strings.Join(groupNames(), ", "))
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
	fmt.Fprintln(out, "tailgate demo: a tailnet, a gateway and its members, in network namespaces of this machine.")
	d, err := setUp(ctx, s, out)
	if err != nil {
		return false, fmt.Errorf("set up: %w", err)
	}
	defer func() { err = errors.Join(err, d.rig.Close()) }()
	fmt.Fprintf(out, "Set up in %v: %d nodes, the gateway ready %v after its start.\n",
		time.Since(start).Round(100*time.Millisecond), len(d.rig.Nodes), d.ready.Round(time.Millisecond))
	d.Report = report.New(out, columns()...)
	for _, g := range selected(s.only) {
		if ctx.Err() != nil {
			break
		}
		d.runGroup(ctx, g)
	}
	if d.Failed > 0 && ctx.Err() == nil {
		fmt.Fprintf(out, "\nThe end of the gateway's log:\n%s", lastLines(d.gw.Log(), 40))
	}
	if s.keep && ctx.Err() == nil {
		if err := d.reset(ctx); err != nil {
			fmt.Fprintln(out, "\nThe scene is not as it was:", err)
		}
		d.showAround(out)
		<-ctx.Done()
	}
	if ctx.Err() != nil && !s.keep {
		return false, errors.New("interrupted")
	}
	return d.End(start), nil
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(len(lines)-n-1, 0):], "")
}

// showAround says what there is, and how to look at it.
func (d *demo) showAround(out io.Writer) {
	gw, m, x := d.gw.NetNS(), d.member.NetNS(), d.exitMember.NetNS()
	peer, in := d.rig.Nodes[rig.Plain], d.rig.Internet
	fmt.Fprintf(out, `
Everything is still up, in the network namespaces that "ip netns" shows. Try:

  ip netns exec %[1]s ping %[5]v
  ip netns exec %[1]s curl http://%[5]v/
  ip netns exec %[2]s curl http://%[6]v/          the internet, by way of exit-a
  ip netns exec %[1]s ip route show table 7717
  ip netns exec %[3]s nft list table inet tailgate
  ip netns exec %[3]s curl http://127.0.0.1:9001/debug/
  ip netns exec %[3]s tcpdump -ni tailscale0
  tailscale --socket=%[4]s status

The gateway's configuration is %[7]s: change it and watch.
Ctrl-C ends it all.
`, m, x, gw, d.gw.Socket("tailscaled.sock"), peer.Tail4, in.V4, d.gw.ConfigFile())
}
