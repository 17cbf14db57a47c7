// Package program is what the programs below test have in common: how they end, and how they read their flags.
package program

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

// Main runs a program until it is done or interrupted, and ends it: with status 0 when run returns true (all checks passed, every goal was
// reached), 1 when it returns false, 2 when there was an error of the program itself.
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

// Parse reads the flags of a program that takes nothing else; usage is said before their list.
func Parse(fs *flag.FlagSet, usage string, args []string, out io.Writer) error {
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = io.WriteString(out, usage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag; see --help", fs.Arg(0))
	}
	return nil
}
