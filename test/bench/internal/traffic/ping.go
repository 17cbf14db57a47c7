//go:build linux

package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// protoICMP is ICMP's number, as package icmp takes it.
const protoICMP = 1

// stragglers is how long an answer may take after the last ping was sent.
const stragglers = time.Second

// ping sends the job's pings (ICMP, which the peer's kernel answers) and notes how long each answer took.
func ping(ctx context.Context, j Job) (Result, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "ip4:icmp", "0.0.0.0")
	if err != nil {
		return Result{}, fmt.Errorf("ping: %w", err)
	}
	defer pc.Close()
	id := os.Getpid() & 0xffff
	sent := make(chan time.Time, j.Count)
	done := make(chan []time.Duration, 1)
	go func() { done <- answers(pc, id, sent, j.Count) }()
	if err := sendPings(ctx, pc, j, id, sent); err != nil {
		return Result{}, err
	}
	if err := pc.SetReadDeadline(time.Now().Add(stragglers)); err != nil {
		return Result{}, fmt.Errorf("ping: %w", err)
	}
	rtts := <-done
	return Result{Sent: j.Count, Received: len(rtts), RoundTrips: rtts}, nil
}

func sendPings(ctx context.Context, pc net.PacketConn, j Job, id int, sent chan<- time.Time) error {
	every := time.NewTicker(j.Interval)
	defer every.Stop()
	to := &net.IPAddr{IP: j.To.AsSlice()}
	for seq := range j.Count {
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("ping: %w", ctx.Err())
		}
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, 56)}}
		b, err := m.Marshal(nil)
		if err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		sent <- time.Now()
		if _, err := pc.WriteTo(b, to); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
	}
	return nil
}

// answers reads until every ping is answered or the deadline has come.
func answers(pc net.PacketConn, id int, sent <-chan time.Time, count int) []time.Duration {
	var times []time.Time // by sequence number
	var rtts []time.Duration
	for buf := make([]byte, 1500); len(rtts) < count; {
		n, _, err := pc.ReadFrom(buf)
		now := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue // an ICMP error about another packet
		}
		m, err := icmp.ParseMessage(protoICMP, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		e, ok := m.Body.(*icmp.Echo)
		if !ok || e.ID != id || e.Seq >= count {
			continue
		}
		for len(times) <= e.Seq {
			times = append(times, <-sent)
		}
		rtts = append(rtts, now.Sub(times[e.Seq]))
	}
	return rtts
}
