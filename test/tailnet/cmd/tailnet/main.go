//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

const usage = `A hermetic tailnet: control plane, DERP, STUN, HTTP API v2, and real peers.

  tailnet serve   run a tailnet, with peers in the same process if wanted
  tailnet peer    run a node of it, here, in the present network namespace
  tailnet organization
                  run an organization, whose API makes and deletes a tailnet
  tailnet CMD -h  flags, and examples

A tailnet and a peer, each in a namespace that has an address:

  ip netns exec core tailnet serve --addr 10.0.0.1 --key-file /tmp/key --auto-approve
  ip netns exec a    tailnet peer --name a --control http://10.0.0.1:8080 --key-file /tmp/key
  ip netns exec core curl -s http://127.0.0.1:8082/nodes
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		slog.Error("tailnet", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	// Nothing phones home. Tailscale reads these when it needs them.
	for _, kv := range [][2]string{{"TS_NO_LOGS_NO_SUPPORT", "true"}, {"TS_DISABLE_PORTMAPPER", "1"}} {
		if err := os.Setenv(kv[0], kv[1]); err != nil {
			return fmt.Errorf("set %s: %w", kv[0], err)
		}
	}
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:], out)
	case "peer":
		return runPeer(ctx, args[1:], out)
	case "organization":
		return organization(ctx, args[1:], out)
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("%q is not a command of tailnet; use serve, peer, organization or help", args[0])
}
