//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rajsinghtech/tailgate/test/lab"
)

func up(ctx context.Context, f *cliFlags, _ []string) error {
	l, err := lab.Up(ctx, f.o)
	if err != nil {
		return err
	}
	if err := l.Keep(); err != nil {
		return err
	}
	fmt.Printf("lab %s is up: try \"lab kubectl get pods -A\"; logs are in %s\n", l.Options.Name, l.LogDir())
	return nil
}

func down(ctx context.Context, f *cliFlags, _ []string) error {
	start := time.Now()
	if err := lab.Down(ctx, f.o.Dir, f.o.Name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(os.Stderr, "nothing is left, after %.1f s\n", time.Since(start).Seconds())
	return err
}

func status(ctx context.Context, f *cliFlags, _ []string) error {
	all, err := lab.List(ctx, f.o.Dir)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Println("no lab is up")
	}
	for _, s := range all {
		if f.o.Name != "" && f.o.Name != s.Name {
			continue
		}
		fmt.Printf("%s: %s (%s), started %s\n", s.Name, s.State, s.Options, s.Started.Format(time.DateTime))
		for _, m := range s.Machines {
			what := "down"
			if m.Up {
				what = strings.Join(m.Processes, ", ")
			}
			fmt.Printf("  %-3s %s\n", m.Name, what)
		}
	}
	return nil
}

// foreground returns a context for a program that has the terminal: an interrupt is its business.
func foreground(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM)
}

func attach(c *exec.Cmd) {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
}

func kubectl(ctx context.Context, f *cliFlags, args []string) error {
	l, err := lab.Open(ctx, f.o.Dir, f.o.Name)
	if err != nil {
		return err
	}
	ctx, stop := foreground(ctx)
	defer stop()
	c := l.Kubectl(ctx, args...)
	attach(c.Cmd)
	return c.Run()
}

func kubeconfig(ctx context.Context, f *cliFlags, _ []string) error {
	l, err := lab.Open(ctx, f.o.Dir, f.o.Name)
	if err != nil {
		return err
	}
	_, err = fmt.Println(l.Kubeconfig())
	return err
}

func shell(ctx context.Context, f *cliFlags, args []string) error {
	l, err := lab.Open(ctx, f.o.Dir, f.o.Name)
	if err != nil {
		return err
	}
	n, err := l.Node(args[0])
	if err != nil {
		return err
	}
	ctx, stop := foreground(ctx)
	defer stop()
	if args = args[1:]; len(args) == 0 {
		args = []string{"-i"}
	} else {
		// The node has paths of its own, so a shell there looks the program up.
		args = append([]string{"-c", `exec "$@"`, "sh"}, args...)
	}
	c := exec.CommandContext(ctx, "/bin/sh", args...)
	c.Dir = "/"
	attach(c)
	return n.Run(ctx, c)
}

func node(ctx context.Context, f *cliFlags, args []string) error {
	l, err := lab.Open(ctx, f.o.Dir, f.o.Name)
	if err != nil {
		return err
	}
	n, err := l.Node(args[1])
	if err != nil {
		return err
	}
	if args[0] == "restart" {
		var services []lab.Service
		for _, a := range args[2:] {
			services = append(services, lab.Service(a))
		}
		return n.Restart(ctx, services...)
	}
	do, ok := map[string]func(context.Context) error{
		"crash": n.Crash, "start": n.Start, "reboot": n.Reboot, "freeze": n.Freeze, "thaw": n.Thaw, "cut": n.Cut, "join": n.Join,
	}[args[0]]
	if !ok {
		return fmt.Errorf("%q is nothing that can be done to a node: use crash, start, reboot, freeze, thaw, cut, join or restart", args[0])
	}
	if len(args) > 2 {
		return fmt.Errorf("%s takes one node, not %q", args[0], args[1:])
	}
	return do(ctx)
}

func load(ctx context.Context, f *cliFlags, args []string) error {
	l, err := lab.Open(ctx, f.o.Dir, f.o.Name)
	if err != nil {
		return err
	}
	return l.Load(ctx, args...)
}

func binaries(ctx context.Context, f *cliFlags, _ []string) error {
	parts := lab.AllParts()
	if f.only != "" {
		parts = nil
		for _, p := range strings.Split(f.only, ",") {
			parts = append(parts, lab.Part(p))
		}
	}
	b, err := lab.Build(ctx, os.Stderr, parts...)
	if err != nil {
		return err
	}
	for _, p := range parts {
		fmt.Println(b.Dir(p))
	}
	return nil
}

func images(ctx context.Context, _ *cliFlags, _ []string) error {
	b, err := lab.Build(ctx, os.Stderr, lab.Images)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(b.Dir(lab.Images))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tar") {
			fmt.Println(filepath.Join(b.Dir(lab.Images), e.Name()))
		}
	}
	return nil
}
