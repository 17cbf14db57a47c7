//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/rajsinghtech/tailgate/test/lab"
)

const usage = `A lab: real Kubernetes on this machine, without Docker and without a registry.

  lab up [--nodes=2] [--family=dual|v4|v6] [--cni=ptp|bridge] [--image=ARCHIVE,...]
                              start it; says nothing new when it is up already
  lab down                    end it, and remove everything of it
  lab status                  which labs there are, and what runs in them
  lab kubectl [--] ARGS       run kubectl in its network
  lab shell NODE [COMMAND...] a shell, or a command, in a node
  lab node ACTION NODE        crash, start, reboot, freeze, thaw, cut (off the network), join (it again),
                              restart [containerd|kubelet|kube-proxy]
  lab load ARCHIVE...         import images into every node
  lab kubeconfig              print the path of a kubeconfig, for programs in its network
  lab binaries [--only=PART]  build what is missing, print where it is
  lab images                  print the archive of the lab's own images

Each takes --name=NAME (default: lab), to tell labs apart, and --dir=DIR, the folder that holds their
folders, before other arguments. Binaries are kept in $TAILGATE_CACHE, or tailgate/lab in the user's cache.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit): // it has said why itself
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil && !errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, "lab:", strings.ReplaceAll(err.Error(), "\n", "\nlab: "))
		os.Exit(1)
	}
}

// command is one of the program's.
type command struct {
	// least and most are how many arguments it takes beside flags; most of -1: any number.
	least, most int
	run         func(ctx context.Context, f *cliFlags, args []string) error
}

var commands = map[string]command{
	"up":         {0, 0, up},
	"down":       {0, 0, down},
	"status":     {0, 0, status},
	"kubectl":    {0, -1, kubectl},
	"shell":      {1, -1, shell},
	"node":       {2, -1, node},
	"load":       {1, -1, load},
	"kubeconfig": {0, 0, kubeconfig},
	"binaries":   {0, 0, binaries},
	"images":     {0, 0, images},
}

// cliFlags are those of all commands.
type cliFlags struct {
	o    lab.Options
	only string
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		_, err := fmt.Print(usage)
		return err
	}
	name := args[0]
	c, ok := commands[name]
	if !ok {
		return fmt.Errorf("%q is no command of the lab; \"lab help\" tells which there are", name)
	}
	f, args, err := parse(name, args[1:])
	if err != nil {
		return err
	}
	if len(args) < c.least || c.most >= 0 && len(args) > c.most {
		return fmt.Errorf("%s does not take %d arguments; \"lab help\" tells what it takes", name, len(args))
	}
	return c.run(ctx, f, args)
}

// parse reads the flags that a command takes.
func parse(name string, args []string) (*cliFlags, []string, error) {
	f := &cliFlags{o: lab.Options{Out: os.Stderr}}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	fs.StringVar(&f.o.Name, "name", "", "")
	fs.StringVar(&f.o.Dir, "dir", "", "")
	switch name {
	case "up":
		fs.IntVar(&f.o.Nodes, "nodes", 0, "")
		fs.Func("family", "", func(s string) error { f.o.Family = lab.Family(s); return nil })
		fs.Func("cni", "", func(s string) error { f.o.CNI = lab.CNI(s); return nil })
		fs.Func("image", "", func(s string) error {
			f.o.Images = append(f.o.Images, strings.FieldsFunc(s, func(r rune) bool { return r == ',' })...)
			return nil
		})
	case "binaries":
		fs.StringVar(&f.only, "only", "", "")
	}
	own, rest := ownFlags(name, args)
	if name == "kubectl" {
		return f, rest, fs.Parse(own)
	}
	args = append(own, rest...)
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	return f, fs.Args(), nil
}

// ownFlags takes --name and --dir out of args, wherever they are; but of what is kubectl's, or a program's
// in a node, only from before it.
func ownFlags(name string, args []string) (own, rest []string) {
	for i, a := range args {
		switch {
		case strings.HasPrefix(a, "--name=") || strings.HasPrefix(a, "--dir="):
			own = append(own, a)
		case name == "kubectl" && a == "--":
			return own, args[i+1:]
		case name == "kubectl" || name == "shell":
			return own, args[i:]
		default:
			rest = append(rest, a)
		}
	}
	return own, rest
}
