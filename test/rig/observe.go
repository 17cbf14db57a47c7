//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// retryEvery is how often something is tried again that cannot be waited for, such as a socket
// that a process has yet to make.
const retryEvery = 10 * time.Millisecond

// Retry calls try until it succeeds or ctx ends, and returns its last error.
func Retry(ctx context.Context, try func(context.Context) error) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// snapshotSocket is the name that package gateway/node gives it.
const snapshotSocket = "snapshot.sock"

// Snapshot returns the newest snapshot.
func (g *Gateway) Snapshot(ctx context.Context) (snapshot.Snapshot, error) {
	return snapshot.Get(ctx, g.Socket(snapshotSocket))
}

// WaitSnapshot returns the first snapshot that cond is true for, the newest one first. The gateway may still be
// starting, or start anew meanwhile. The error tells the last snapshot.
func (g *Gateway) WaitSnapshot(ctx context.Context, cond func(snapshot.Snapshot) bool) (snapshot.Snapshot, error) {
	var last snapshot.Snapshot
	err := Retry(ctx, func(ctx context.Context) error {
		return snapshot.Watch(ctx, g.Socket(snapshotSocket), func(s snapshot.Snapshot) bool {
			last = s
			return !cond(s)
		})
	})
	if err != nil {
		return last, fmt.Errorf("gateway %s does not say what it should; last: %+v: %w", g.Name, last, err)
	}
	return last, nil
}

// WaitReady waits until the gateway runs with all in place.
func (g *Gateway) WaitReady(ctx context.Context) (snapshot.Snapshot, error) {
	return g.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return s.Ready })
}

// Apply writes a configuration (see [Gateway.WriteConfig] for hash) and waits until it is in force;
// it returns the time from the change of the file until the gateway said so.
func (g *Gateway) Apply(ctx context.Context, write func() (hash string, err error)) (snapshot.Snapshot, time.Duration, error) {
	start := time.Now()
	hash, err := write()
	if err != nil {
		return snapshot.Snapshot{}, 0, err
	}
	s, err := g.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return s.Config.Hash == hash && s.Config.Error == "" })
	return s, time.Since(start), err
}

// WaitPage fetches a page of the gateway's until it has all the words, whatever its status, and returns it.
func (g *Gateway) WaitPage(ctx context.Context, path string, words ...string) (page string, err error) {
	err = Retry(ctx, func(ctx context.Context) error {
		page, err = g.Debug(ctx, path)
		var status *StatusError
		if err != nil && !errors.As(err, &status) {
			return err
		}
		for _, w := range words {
			if !strings.Contains(page, w) {
				return fmt.Errorf("page %s of %s does not say %q, but:\n%s", path, g.Name, w, page)
			}
		}
		return nil
	})
	return page, err
}

// Debug fetches a page from the gateway's loopback listener.
func (g *Gateway) Debug(ctx context.Context, path string) (string, error) {
	b, err := GetPage(ctx, g.Host, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), debugPort), path)
	return string(b), err
}

// Metrics are the samples of a page in Prometheus's text format: by name with labels, as in
// `name{label="value"}`.
type Metrics map[string]float64

// Metrics fetches the gateway's metrics.
func (g *Gateway) Metrics(ctx context.Context) (Metrics, error) {
	page, err := g.Debug(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return ParseMetrics(page)
}

// ParseMetrics reads Prometheus's text format; timestamps are not expected.
func ParseMetrics(page string) (Metrics, error) {
	m := Metrics{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("metrics line %q has no value", line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics line %q: %w", line, err)
		}
		m[line[:i]] = v
	}
	return m, nil
}

// Sum adds up the samples of that name whose labels hold all of the given ones, each as in `reason="syntax"`.
func (m Metrics) Sum(name string, labels ...string) float64 {
	var sum float64
samples:
	for key, v := range m {
		base, rest, _ := strings.Cut(key, "{")
		if base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue samples
			}
		}
		sum += v
	}
	return sum
}
