package tailnet_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tailscale.com/client/local"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

func TestMain(m *testing.M) {
	peer.MaybeRun()
	os.Exit(m.Run())
}

// lab is a world with a tailnet in its core.
type lab struct {
	*testing.T
	ctx context.Context
	w   *world.World
	tn  *tailnet.Tailnet
	key tailnet.Key // reusable, no tags
}

// labs makes names of namespaces unique: labs run in parallel.
var labs atomic.Int64

func newLab(t *testing.T, opts tailnet.Options) *lab {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w, err := world.New(ctx, fmt.Sprintf("tnt%d", labs.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	opts.Addr, opts.Listen, opts.ListenPacket = w.Core.V4, w.Core.Listen, w.Core.ListenPacket
	tn, err := tailnet.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	return &lab{T: t, ctx: ctx, w: w, tn: tn, key: tn.CreateKey(tailnet.KeyOptions{Reusable: true})}
}

// host makes an underlay host.
func (l *lab) host(name string) *world.Host {
	l.Helper()
	h, err := l.w.AddHost(name)
	if err != nil {
		l.Fatal(err)
	}
	return h
}

// services runs the echo services in h, which is no node.
func (l *lab) services(h *world.Host) {
	l.Helper()
	if _, err := peer.Start(l.ctx, h, peer.Config{Name: h.Name}); err != nil {
		l.Fatal(err)
	}
}

// start runs a peer in h; what c does not say is filled in.
func (l *lab) start(h *world.Host, c peer.Config) (*peer.Peer, error) {
	c.ControlURL = l.tn.ControlURL()
	if c.Name == "" {
		c.Name = h.Name
	}
	if c.AuthKey == "" {
		c.AuthKey = l.key.Secret
	}
	return peer.Start(l.ctx, h, c)
}

// node is a peer on a host of its own, online.
func (l *lab) node(name string, c peer.Config) (*world.Host, *peer.Peer) {
	l.Helper()
	h := l.host(name)
	p, err := l.start(h, c)
	if err != nil {
		l.Fatal(err)
	}
	if _, err := l.tn.WaitNode(l.ctx, name); err != nil {
		l.Fatal(err)
	}
	return h, p
}

// wait waits for a condition of the control plane.
func (l *lab) wait(what string, cond func(*tailnet.Tailnet) bool) {
	l.Helper()
	if err := l.tn.Wait(l.ctx, cond); err != nil {
		l.Fatalf("waiting for %s: %v", what, err)
	}
}

// attempt bounds one try at something that may never answer.
const attempt = 500 * time.Millisecond

// until tries f until it succeeds; each try takes as long as its own timeout.
func (l *lab) until(what string, f func(ctx context.Context) error) {
	l.Helper()
	for {
		ctx, cancel := context.WithTimeout(l.ctx, attempt)
		err := f(ctx)
		if err == nil {
			cancel()
			return
		}
		// What fails at once is not tried again at once.
		<-ctx.Done()
		cancel()
		if l.ctx.Err() != nil {
			l.Fatalf("%s: %v", what, err)
		}
	}
}

// allowed waits until h gets the whole answer want from the address.
func (l *lab) allowed(h *world.Host, to netip.Addr, want string) {
	l.Helper()
	l.until(fmt.Sprintf("%s gets %q from %v", h.Name, want, to), func(ctx context.Context) error {
		got, err := get(ctx, h, "http", to, "/")
		if err == nil && !matches(got, want) {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

// denied waits until a TCP connection from h gets no answer at all.
func (l *lab) denied(h *world.Host, to netip.AddrPort) {
	l.Helper()
	l.until(fmt.Sprintf("%s is cut from %v", h.Name, to), func(ctx context.Context) error {
		c, err := h.Dial(ctx, "tcp", to.String())
		if err == nil {
			_ = c.Close()
			return errors.New("connected")
		}
		if ctx.Err() == nil {
			return fmt.Errorf("was answered: %w", err)
		}
		return nil
	})
}

// matches compares an echo with "ADDR via=NAME", since the port is any.
func matches(got, want string) bool {
	addr, via, _ := strings.Cut(want, " ")
	from, rest, ok := strings.Cut(strings.TrimSuffix(got, "\n"), " ")
	ap, err := netip.ParseAddrPort(strings.TrimPrefix(from, "from="))
	return ok && err == nil && ap.Addr().String() == addr && rest == via
}

// get fetches from inside h without checking certificates.
func get(ctx context.Context, h *world.Host, scheme string, to netip.Addr, path string) (string, error) {
	c := &http.Client{Transport: &http.Transport{
		DialContext: h.Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+bracket(to)+path, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func bracket(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// echo sends a message to port 7 and wants it back.
func echo(ctx context.Context, h *world.Host, network string, to netip.Addr) error {
	c, err := h.Dial(ctx, network, netip.AddrPortFrom(to, 7).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(d); err != nil {
			return err
		}
	}
	want := []byte("hello over " + network)
	if _, err := c.Write(want); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("echo of %q is %q", want, got)
	}
	return nil
}

func ping(ctx context.Context, h *world.Host, to netip.Addr) error {
	out, err := h.Command(ctx, "ping", "-n", "-c", "1", "-W", "2", to.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping %v: %w\n%s", to, err, out)
	}
	return nil
}

// socket makes a path for a peer's LocalAPI, and its client.
func socket(t *testing.T) (string, *local.Client) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s") // short: sun_path has 108 bytes
	return path, &local.Client{Socket: path, UseSocketOnly: true}
}
