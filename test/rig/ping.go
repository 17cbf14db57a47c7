//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// PingStats is the account of a [Pinger].
type PingStats struct {
	// Sent counts the tries, Received the answers, Lost the tries without one.
	Sent, Received, Lost int
	// Gap is the longest time from one answer to the next, the interval included.
	Gap time.Duration
	// FirstLost and LastLost are when the first and the last of the lost were sent; zero: none was.
	FirstLost, LastLost time.Time
	// Err is the last error that the kernel gave for a try, such as "no route to host".
	Err error
}

// String returns the account in words.
func (s PingStats) String() string {
	text := fmt.Sprintf("%d of %d pings, longest gap %v", s.Received, s.Sent, s.Gap.Round(time.Millisecond))
	if s.Lost > 0 {
		const clock = "15:04:05.000"
		text += fmt.Sprintf(", lost from %s to %s UTC", s.FirstLost.UTC().Format(clock), s.LastLost.UTC().Format(clock))
		if s.Err != nil {
			text += fmt.Sprintf(" (the kernel's last word: %v)", s.Err)
		}
	}
	return text
}

// Pinger pings one address without pause. Make it with [StartPing].
type Pinger struct {
	conn     net.PacketConn
	to       netip.Addr
	id       int
	interval time.Duration
	stop     context.CancelFunc
	sender   sync.WaitGroup
	receiver sync.WaitGroup

	mu       sync.Mutex
	answered map[int]bool // by sequence number
	sent     int
	begun    time.Time
	last     time.Time // of the last answer
	gap      time.Duration
	err      error
	changed  chan struct{}
}

// pings numbers the pingers of this process, so that each knows its own answers.
var pings atomic.Int32

// Protocol numbers, as package icmp takes them.
const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// StartPing pings to from h, once an interval (10 ms: 100 a second), until [Pinger.Stop], or until ctx ends.
func StartPing(ctx context.Context, h *world.Host, to netip.Addr, interval time.Duration) (*Pinger, error) {
	network, any := "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		network, any = "ip6:ipv6-icmp", "::"
	}
	conn, err := h.ListenPacket(network, any)
	if err != nil {
		return nil, fmt.Errorf("ping from %s: %w", h.Name, err)
	}
	p := &Pinger{
		conn: conn, to: to, id: (os.Getpid() + int(pings.Add(1))) & 0xffff, interval: interval,
		answered: map[int]bool{}, begun: time.Now(), last: time.Now(), changed: make(chan struct{}),
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.sender.Go(func() { p.send(ctx) })
	p.receiver.Go(p.receive)
	return p, nil
}

// send keeps to the interval on average: a late wake-up is made up for.
func (p *Pinger) send(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p.sendOne(n)
		timer.Reset(time.Until(start.Add(time.Duration(n) * p.interval)))
	}
}

func (p *Pinger) sendOne(seq int) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: p.id, Seq: seq & 0xffff, Data: make([]byte, 56)}}
	if p.to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, err := m.Marshal(nil) // the kernel fills in ICMPv6's checksum
	p.mu.Lock()
	p.sent = seq
	p.mu.Unlock()
	if err == nil {
		_, err = p.conn.WriteTo(b, &net.IPAddr{IP: p.to.AsSlice()})
	}
	if err != nil {
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}
}

func (p *Pinger) receive() {
	proto := protoICMP
	if p.to.Is6() {
		proto = protoICMPv6
	}
	for buf := make([]byte, 1500); ; {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about another packet
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == p.id {
			p.note(e.Seq)
		}
	}
}

// note counts an answer, whose sequence number has 16 bits only.
func (p *Pinger) note(low int) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := p.sent&^0xffff | low
	if seq > p.sent {
		seq -= 1 << 16
	}
	if p.answered[seq] {
		return
	}
	p.answered[seq] = true
	p.gap = max(p.gap, now.Sub(p.last))
	p.last = now
	close(p.changed)
	p.changed = make(chan struct{})
}

// Stats is the account so far; what is under way counts as lost.
func (p *Pinger) Stats() PingStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A gap that has not ended is one, too.
	gap := max(p.gap, time.Since(p.last))
	s := PingStats{Sent: p.sent, Received: len(p.answered), Lost: p.sent - len(p.answered), Gap: gap, Err: p.err}
	for n := 1; n <= p.sent && s.Lost > 0; n++ {
		if p.answered[n] {
			continue
		}
		s.LastLost = p.begun.Add(time.Duration(n-1) * p.interval)
		if s.FirstLost.IsZero() {
			s.FirstLost = s.LastLost
		}
	}
	return s
}

// WaitAnswer waits for the next answer.
func (p *Pinger) WaitAnswer(ctx context.Context) error {
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer from %v: %w", p.to, errors.Join(ctx.Err(), p.Stats().Err))
	}
}

// grace is how long an answer may take that is not to count as lost.
const grace = time.Second

// Stop ends the pings, waits for the answers that are due and returns the account.
func (p *Pinger) Stop() PingStats {
	p.stop()
	p.sender.Wait()
	stats := p.Stats()
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	for waiting := true; waiting && p.Stats().Lost > 0; {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			waiting = false
		}
	}
	gap := stats.Gap // without the wait just now
	stats = p.Stats()
	stats.Gap = max(gap, p.gapEnded())
	p.close()
	return stats
}

func (p *Pinger) gapEnded() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap
}

// Ping pings once a tenth of a second until there is an answer.
func Ping(ctx context.Context, h *world.Host, to netip.Addr) error {
	p, err := StartPing(ctx, h, to, 100*time.Millisecond)
	if err != nil {
		return err
	}
	defer p.close()
	return p.WaitAnswer(ctx)
}

// SprayPings sends n pings, an interval apart, and does not wait for answers.
func SprayPings(ctx context.Context, h *world.Host, to netip.Addr, n int, interval time.Duration) error {
	p, err := StartPing(ctx, h, to, interval)
	if err != nil {
		return err
	}
	defer p.close()
	return Pause(ctx, time.Duration(n-1)*interval+interval/2)
}

// Pause lets d pass; the error is ctx's, if that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pinger) close() {
	p.stop()
	p.sender.Wait()
	_ = p.conn.Close()
	p.receiver.Wait()
}
