package report

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main runs a demonstration until it is done or interrupted, and ends the program: with status 0 when all checks passed, 1
// when one did not, 2 when there was an error of its own.
func Main(name string, run func(ctx context.Context, args []string, out io.Writer) (ok bool, err error)) {
	// A second Ctrl-C ends the program at once; the kernel ends its processes then.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}
