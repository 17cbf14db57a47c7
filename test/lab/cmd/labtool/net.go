//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// serve answers each family on HTTP, TCP and UDP: who asked, who answers, and what was sent.
func serve(ctx context.Context, args []string, out io.Writer) error {
	var web, stream, packet string
	_, err := flags("serve", args, 0, 0, func(fs *flag.FlagSet) {
		fs.StringVar(&web, "http", ":8080", "`address` of the web server; \"\": none")
		fs.StringVar(&stream, "tcp", ":9000", "`address` that echoes lines; \"\": none")
		fs.StringVar(&packet, "udp", ":9000", "`address` that echoes datagrams; \"\": none")
	})
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	lc := new(net.ListenConfig)
	for _, s := range []struct {
		addr  string
		start func(string) error
	}{
		{web, func(addr string) error {
			ln, err := lc.Listen(ctx, "tcp", addr)
			if err == nil {
				srv := &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: time.Minute}
				go func() { fail(srv.Serve(ln)) }()
			}
			return err
		}},
		{stream, func(addr string) error {
			ln, err := lc.Listen(ctx, "tcp", addr)
			if err == nil {
				go func() { fail(echoLines(ln)) }()
			}
			return err
		}},
		{packet, func(addr string) error {
			pc, err := lc.ListenPacket(ctx, "udp", addr)
			if err == nil {
				go func() { fail(echoPackets(pc)) }()
			}
			return err
		}},
	} {
		if s.addr == "" {
			continue
		}
		if err := s.start(s.addr); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "serving HTTP on %q, TCP on %q, UDP on %q\n", web, stream, packet)
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// hello says who is there. With ?wait=DURATION it takes its time, with ?size=BYTES it goes on for long.
func hello(w http.ResponseWriter, r *http.Request) {
	host, _ := os.Hostname()
	if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(d):
		}
	}
	fmt.Printf("%s %s from %s\n", r.Method, r.URL, r.RemoteAddr)
	fmt.Fprintf(w, "host %s remote %s\n", host, r.RemoteAddr)
	var size int
	if _, err := fmt.Sscan(r.URL.Query().Get("size"), &size); err == nil {
		_, _ = io.CopyN(w, zeros{}, int64(size))
	}
}

// zeros is as many zeros as are wanted.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func echoLines(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			host, _ := os.Hostname()
			for sc := bufio.NewScanner(conn); sc.Scan(); {
				if _, err := fmt.Fprintf(conn, "host %s remote %s: %s\n", host, conn.RemoteAddr(), sc.Text()); err != nil {
					return
				}
			}
		}()
	}
}

func echoPackets(pc net.PacketConn) error {
	host, _ := os.Hostname()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return err
		}
		msg := fmt.Sprintf("host %s remote %s: %s", host, from, strings.TrimSpace(string(buf[:n])))
		if _, err := pc.WriteTo([]byte(msg), from); err != nil {
			fmt.Println("udp:", err) // the asker may have gone
		}
	}
}

func get(ctx context.Context, args []string, out io.Writer) error {
	var timeout time.Duration
	args, err := flags("get", args, 1, 1, func(fs *flag.FlagSet) {
		fs.DurationVar(&timeout, "timeout", 5*time.Second, "for the whole request")
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func tcp(ctx context.Context, args []string, out io.Writer) error {
	return send(ctx, "tcp", args, out)
}

func udp(ctx context.Context, args []string, out io.Writer) error {
	return send(ctx, "udp", args, out)
}

// send sends a line and prints the line, or the datagram, that comes back.
func send(ctx context.Context, network string, args []string, out io.Writer) error {
	var timeout time.Duration
	args, err := flags(network, args, 1, 2, func(fs *flag.FlagSet) {
		fs.DurationVar(&timeout, "timeout", 5*time.Second, "for connecting and the answer")
	})
	if err != nil {
		return err
	}
	text := "hello"
	if len(args) == 2 {
		text = args[1]
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if _, err := fmt.Fprintln(conn, text); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, strings.TrimSpace(string(buf[:n])))
	return nil
}

func addrs(_ context.Context, _ []string, out io.Writer) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		as, err := l.Addrs()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s mtu %d %v", l.Name, l.MTU, l.Flags)
		for _, a := range as {
			fmt.Fprintf(out, " %v", a)
		}
		fmt.Fprintln(out)
	}
	return nil
}
