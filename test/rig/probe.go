//go:build linux

package rig

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// dial connects from h and lets the connection end with ctx's deadline.
func dial(ctx context.Context, h *world.Host, network string, to netip.AddrPort) (net.Conn, error) {
	c, err := h.Dial(ctx, network, to.String())
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", h.Name, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// Echo sends a message from h to an echo service (port 7) over "tcp" or "udp" and waits for it to
// come back. Over UDP it asks again each second until ctx ends.
func Echo(ctx context.Context, h *world.Host, network string, to netip.Addr) error {
	c, err := dial(ctx, h, network, netip.AddrPortFrom(to, 7))
	if err != nil {
		return err
	}
	defer c.Close()
	msg := fmt.Appendf(nil, "hello from %s at %d", h.Name, time.Now().UnixNano())
	for {
		if _, err := c.Write(msg); err != nil {
			return fmt.Errorf("echo by %v: %w", to, err)
		}
		got := make([]byte, len(msg))
		if network == "udp" {
			if err := c.SetReadDeadline(earliest(ctx, time.Second)); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, got)
		var late net.Error
		switch {
		case network == "udp" && ctx.Err() == nil && errors.As(err, &late) && late.Timeout():
		case err != nil:
			return fmt.Errorf("echo by %v: %w", to, err)
		case !bytes.Equal(got, msg):
			return fmt.Errorf("echo by %v: sent %q, got %q", to, msg, got)
		default:
			return nil
		}
	}
}

// earliest returns the sooner of ctx's deadline and d from now.
func earliest(ctx context.Context, d time.Duration) time.Time {
	t := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(t) {
		return deadline
	}
	return t
}

// Answer is what a rig's HTTP service said.
type Answer struct {
	// From is the caller's address as the service saw it, Via the service's name.
	From netip.Addr
	Via  string
}

// Get asks the HTTP service at that address who asked, from h.
func Get(ctx context.Context, h *world.Host, to netip.Addr) (Answer, error) {
	body, err := fetch(ctx, h, "http://"+netip.AddrPortFrom(to, 80).String()+"/", nil)
	if err != nil {
		return Answer{}, err
	}
	var from, via string
	if _, err := fmt.Sscanf(string(body), "from=%s via=%s\n", &from, &via); err != nil {
		return Answer{}, fmt.Errorf("service at %v answered %q: %w", to, body, err)
	}
	ap, err := netip.ParseAddrPort(from)
	if err != nil {
		return Answer{}, fmt.Errorf("service at %v answered %q: %w", to, body, err)
	}
	return Answer{From: ap.Addr().Unmap(), Via: via}, nil
}

// GetPage fetches any HTTP page of a host by address and port, from h, and returns its body.
func GetPage(ctx context.Context, h *world.Host, to netip.AddrPort, path string) ([]byte, error) {
	return fetch(ctx, h, "http://"+to.String()+path, nil)
}

// TLS fetches n bytes over TLS from the service at that address, and checks that they are all there.
func TLS(ctx context.Context, h *world.Host, to netip.Addr, n int) error {
	url := fmt.Sprintf("https://%s/bytes?n=%d", netip.AddrPortFrom(to, 443), n)
	body, err := fetch(ctx, h, url, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	if len(body) != n {
		return fmt.Errorf("asked %v for %d bytes over TLS, got %d", to, n, len(body))
	}
	return nil
}

// fetch makes one HTTP request on a connection of its own.
func fetch(ctx context.Context, h *world.Host, url string, conf *tls.Config) ([]byte, error) {
	tr := &http.Transport{DialContext: h.Dial, TLSClientConfig: conf, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", h.Name, err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("from %s: get %s: %w", h.Name, url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("from %s: get %s: %w", h.Name, url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return body, &StatusError{URL: url, Code: resp.StatusCode, Body: strings.TrimSpace(string(body))}
	}
	return body, nil
}

// StatusError is an HTTP answer other than 200.
type StatusError struct {
	URL  string
	Code int
	Body string
}

// Error returns the status and the body.
func (e *StatusError) Error() string {
	return fmt.Sprintf("get %s: status %d: %s", e.URL, e.Code, e.Body)
}
