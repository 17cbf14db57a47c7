//go:build linux

package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"tailscale.com/client/local"

	"github.com/rajsinghtech/tailgate/test/tailnet/internal/selfsigned"
)

// maxBytes bounds /bytes.
const maxBytes = 1 << 32

// serve starts the echo services on all addresses of the namespace: HTTP on 80, HTTPS on 443, TCP
// and UDP echo on 7 (RFC 862). They end with ctx.
func serve(ctx context.Context, name string) error {
	cert, err := selfsigned.Certificate(name)
	if err != nil {
		return err
	}
	for port, tlsConfig := range map[int]*tls.Config{
		80:  nil,
		443: {Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	} {
		ln, err := listen(ctx, port)
		if err != nil {
			return err
		}
		if tlsConfig != nil {
			ln = tls.NewListener(ln, tlsConfig)
		}
		srv := &http.Server{Handler: Handler(name), ReadHeaderTimeout: time.Minute}
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		go func() { _ = srv.Serve(ln) }() // ends with ctx
	}
	ln, err := listen(ctx, 7)
	if err != nil {
		return err
	}
	go echoTCP(ln)
	return serveUDP(ctx)
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("serve TCP port %d: %w", port, err)
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	return ln, nil
}

// Handler answers "/" with who asked and who answered, as "from=IP:PORT via=NAME\n", and
// "/bytes?n=N" with N bytes.
func Handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 || n > maxBytes {
			http.Error(w, fmt.Sprintf("n must be a number of bytes up to %d", int64(maxBytes)), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, zeros{}, n) // the client may have had enough
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "from=%s via=%s\n", r.RemoteAddr, name)
	})
	return mux
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func echoTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// serveUDP echoes with the address that was asked as the source: a host with several would
// otherwise answer from another one.
func serveUDP(ctx context.Context) error {
	c4, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", ":7")
	if err != nil {
		return fmt.Errorf("serve UDP: %w", err)
	}
	c6, err := new(net.ListenConfig).ListenPacket(ctx, "udp6", ":7")
	if err != nil {
		return errors.Join(fmt.Errorf("serve UDP: %w", err), c4.Close())
	}
	context.AfterFunc(ctx, func() { _, _ = c4.Close(), c6.Close() })
	p4, p6 := ipv4.NewPacketConn(c4), ipv6.NewPacketConn(c6)
	if err := errors.Join(p4.SetControlMessage(ipv4.FlagDst, true), p6.SetControlMessage(ipv6.FlagDst, true)); err != nil {
		return fmt.Errorf("serve UDP: %w", err)
	}
	go func() {
		for buf := make([]byte, 65536); ; {
			n, cm, from, err := p4.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = p4.WriteTo(buf[:n], &ipv4.ControlMessage{Src: cm.Dst}, from)
			}
		}
	}()
	go func() {
		for buf := make([]byte, 65536); ; {
			n, cm, from, err := p6.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = p6.WriteTo(buf[:n], &ipv6.ControlMessage{Src: cm.Dst}, from)
			}
		}
	}()
	return nil
}

// serveLocalAPI passes connections to the unix socket on to the node.
func serveLocalAPI(ctx context.Context, path string, lc *local.Client) error {
	_ = os.Remove(path) // left by a process that was killed
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("serve LocalAPI: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("serve LocalAPI: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go pipe(ctx, c, lc)
		}
	}()
	return nil
}

func pipe(ctx context.Context, c net.Conn, lc *local.Client) {
	defer c.Close()
	up, err := lc.Dial(ctx, "tcp", "local-tailscaled.sock:80")
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
}
