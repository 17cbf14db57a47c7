package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rajsinghtech/tailgate/test/kind"
)

const usage = `A kind cluster named tailgate, in Docker or podman.

  kind up [dual|v4|v6] [FLAGS]   make it, of kind/FAMILY.yaml; flags are those of "kind create cluster"
  kind down                      end it

Run it in the root of the source tree. $KIND_EXPERIMENTAL_PROVIDER chooses the engine where there are both.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kind:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "up" && args[0] != "down" {
		_, err := fmt.Print(usage)
		return err
	}
	if args[0] == "down" && len(args) > 1 {
		return fmt.Errorf("down takes no arguments, such as %q", args[1])
	}
	t, err := kind.Build(ctx, ".", os.Stderr)
	if err != nil {
		return err
	}
	if args[0] == "down" {
		return t.Down(ctx)
	}
	family, flags := "dual", args[1:]
	if len(flags) > 0 && !strings.HasPrefix(flags[0], "-") {
		family, flags = flags[0], flags[1:]
	}
	return t.Up(ctx, family, flags...)
}
