//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const usage = `usage: labtool COMMAND
  serve [-http :8080] [-tcp :9000] [-udp :9000]  answer until told to end; "" for none
  get [-timeout 5s] URL                          print what a web server says
  tcp [-timeout 5s] HOST:PORT [TEXT]             send a line, print the line that comes back
  udp [-timeout 5s] HOST:PORT [TEXT]             the same, in a datagram
  lookup [-type a] [-server HOST:PORT] NAME      ask a name server: a, aaaa, ptr, txt, cname, srv
  ping [-n 3] [-every 1s] [-timeout 1s] HOST     print round trip times
  sleep [DURATION]                               do nothing, for ever if not told how long
  cat FILE...                                    print files
  ls [DIR...]                                    print names
  addrs                                          print links and addresses
  pause                                          be process 1 of a pod
`

// command is one of the tools. It returns when ctx, which signals end, has ended.
type command func(ctx context.Context, args []string, out io.Writer) error

var commands = map[string]command{
	"serve": serve, "get": get, "tcp": tcp, "udp": udp, "lookup": lookup, "ping": ping,
	"sleep": sleep, "cat": cat, "ls": ls, "addrs": addrs, "pause": pause,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	name := filepath.Base(args[0])
	args = args[1:]
	if _, ok := commands[name]; !ok {
		if len(args) == 0 {
			return fmt.Errorf("what to do?\n%s", usage)
		}
		name, args = args[0], args[1:]
	}
	c, ok := commands[name]
	if !ok {
		return fmt.Errorf("%q is no command\n%s", name, usage)
	}
	if err := c(ctx, args, out); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// flags parses args and wants between least and most of them left over.
func flags(name string, args []string, least, most int, define func(*flag.FlagSet)) ([]string, error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	define(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() < least || fs.NArg() > most {
		return nil, fmt.Errorf("%d arguments are not what it takes\n%s", fs.NArg(), usage)
	}
	return fs.Args(), nil
}

func sleep(ctx context.Context, args []string, _ io.Writer) error {
	if len(args) == 0 {
		<-ctx.Done()
		return nil
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("%q is not a duration: write 10s or 1h", args[0])
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}

// pause collects orphans until it is told to end.
func pause(ctx context.Context, _ []string, _ io.Writer) error {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	for {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-child:
		}
	}
}

func cat(_ context.Context, args []string, out io.Writer) error {
	for _, f := range args {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func ls(_ context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	for _, d := range args {
		entries, err := os.ReadDir(d)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue // it went while we looked
			}
			fmt.Fprintf(out, "%v %s\n", info.Mode(), e.Name())
		}
	}
	return nil
}
