//go:build linux

package traffic

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Probes ping without pause, each ping a flow of its own to connection tracking. They tell when the path works:
// a flow that began while the gateway was half up may have been given a source address that no answer
// comes back to, and keeps it as long as it goes on. tailscaled brings its route up before its address.
type Probes struct {
	conn  net.PacketConn
	to    netip.Addr
	token []byte // in the payload, so that these answers are told from others
	end   context.CancelFunc
	loops sync.WaitGroup

	mu       sync.Mutex
	last     time.Time // of the last answer
	gap      time.Duration
	answered chan struct{} // closed at the next answer
}

// StartProbes pings to from h, once an interval, until [Probes.Stop], or until ctx ends.
func StartProbes(ctx context.Context, h *world.Host, to netip.Addr, interval time.Duration) (*Probes, error) {
	conn, err := h.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", h.Name, err)
	}
	ctx, end := context.WithCancel(ctx)
	p := &Probes{conn: conn, to: to, token: []byte(rand.Text()), end: end, last: time.Now(), answered: make(chan struct{})}
	p.loops.Go(func() { p.send(ctx, interval) })
	p.loops.Go(p.receive)
	return p, nil
}

func (p *Probes) send(ctx context.Context, interval time.Duration) {
	every := time.NewTicker(interval)
	defer every.Stop()
	to := &net.IPAddr{IP: p.to.AsSlice()}
	for id := 1; ; id++ {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id & 0xffff, Data: p.token}}
		if b, err := m.Marshal(nil); err == nil {
			_, _ = p.conn.WriteTo(b, to) // refused while there is no route; the next one follows
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Probes) receive() {
	for buf := make([]byte, 1500); ; {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about another packet
		}
		m, err := icmp.ParseMessage(protoICMP, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && bytes.Equal(e.Data, p.token) {
			p.note(time.Now())
		}
	}
}

func (p *Probes) note(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap = max(p.gap, now.Sub(p.last))
	p.last = now
	close(p.answered)
	p.answered = make(chan struct{})
}

// Wait waits for the next answer.
func (p *Probes) Wait(ctx context.Context) error {
	p.mu.Lock()
	answered := p.answered
	p.mu.Unlock()
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer from %v: %w", p.to, ctx.Err())
	}
}

// Stop ends the probes and returns the longest time from one answer to the next, the interval included.
func (p *Probes) Stop() time.Duration {
	p.end()
	_ = p.conn.Close()
	p.loops.Wait()
	return p.gap
}
