// Package cli is what the four binaries' command lines have in common: each flag
// can be given by an environment variable, and the log is structured.
//
// It promises that a flag on the command line wins over the environment, and
// that a wrong value, in either place, is a sentence. It must never be given a secret: flags are
// visible to every process of a node.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
)

// Main runs a program of that name and ends the process when it fails. What run returns is a sentence; flag.ErrHelp is none.
func Main(name string, run func(ctx context.Context, args []string) error) {
	err := run(context.Background(), os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Refusals are what is wrong with a command line, a sentence each. The zero value is none.
type Refusals []error

// If adds a sentence if it is true.
func (r *Refusals) If(wrong bool, format string, args ...any) {
	if wrong {
		*r = append(*r, fmt.Errorf(format, args...))
	}
}

// CollectEarly lets the heap grow by percent of what lives between collections, for a program whose memory counts more than the
// time that this takes. GOGC in the environment wins.
func CollectEarly(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// EnvName returns the environment variable of a flag: "state-dir" of "TAILGATE" is TAILGATE_STATE_DIR.
func EnvName(prefix, flagName string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

// Parse parses args and then, for each flag not among them, the environment variable of
// [EnvName]; an empty one counts as absent. The error is a sentence without the
// flag package's usage text; flag.ErrHelp is returned as it is, after the help was printed.
func Parse(fs *flag.FlagSet, prefix string, args []string, getenv func(string) string) error {
	out := fs.Output()
	fs.SetOutput(io.Discard) // it prints errors that the caller logs, too
	usage := fs.Usage
	fs.Usage = func() {}
	err := fs.Parse(args)
	fs.SetOutput(out)
	fs.Usage = usage
	if err == flag.ErrHelp { //nolint:errorlint // as documented by package flag, never wrapped
		usage()
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; --help lists the flags", err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; there are only flags, and --help lists them", fs.Arg(0))
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		name := EnvName(prefix, f.Name)
		if v := getenv(name); v != "" && !given[f.Name] && err == nil {
			if serr := fs.Set(f.Name, v); serr != nil {
				err = fmt.Errorf("environment variable %s: %w", name, serr)
			}
		}
	})
	return err
}

// Usage returns a usage function that prints intro and then each flag with its
// environment variable, its default and what it means.
func Usage(fs *flag.FlagSet, prefix, intro string) func() {
	return func() {
		w := fs.Output()
		fmt.Fprintf(w, "%s\n\nFlags, each with the environment variable that stands for it:\n", strings.TrimSpace(intro))
		fs.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			fmt.Fprintf(w, "\n  --%s %s  ($%s", f.Name, kind, EnvName(prefix, f.Name))
			if f.DefValue != "" {
				fmt.Fprintf(w, ", default %s", f.DefValue)
			}
			fmt.Fprintf(w, ")\n      %s\n", strings.ReplaceAll(text, "\n", "\n      "))
		})
	}
}

// Logger returns a logger that writes to stderr in the format "text" or "json", from the level on.
func Logger(format string, level slog.Level) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return nil, fmt.Errorf("log format %q is not known; write text or json", format)
}

// version is set by the build, with -ldflags "-X …/internal/cli.version=v1.2.3".
var version string

// Version returns the build's version: the one stamped, or else the module's.
func Version() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}
