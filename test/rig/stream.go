//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// StreamStats is the account of a [Stream].
type StreamStats struct {
	// Bytes came back, each as it was sent.
	Bytes int64
	// Stall is the longest time without one.
	Stall time.Duration
	// Retransmits counts the segments that the kernel sent again, Needless those of them that the other end
	// had received already, and said so (RFC 2883): no segment was lost, but on a busy machine the
	// acknowledgement came later than a tail loss probe's few milliseconds (RFC 8985, section 7).
	Retransmits, Needless int
	// OutOfOrder counts the segments that came in out of order, as they do when one was lost on the way back.
	OutOfOrder int
	// Err is why the connection ended by itself; nil: it did not.
	Err error
}

// String returns the account in words.
func (s StreamStats) String() string {
	text := fmt.Sprintf("%.1f MB checked, longest stall %v, %d lost", float64(s.Bytes)/1e6, s.Stall.Round(time.Millisecond), s.Lost())
	if s.Retransmits > 0 {
		text += fmt.Sprintf(", %d retransmits of which %d needless", s.Retransmits, s.Needless)
	}
	return text
}

// Lost counts the segments that had to be sent again, either way.
func (s StreamStats) Lost() int { return max(s.Retransmits-s.Needless, 0) + s.OutOfOrder }

// Stream is a long TCP connection to an echo service that carries known bytes both ways, and checks each.
// Make it with [StartStream].
type Stream struct {
	conn           net.Conn
	stop           context.CancelFunc
	sending, loops sync.WaitGroup
	ended          atomic.Bool

	mu    sync.Mutex
	sent  int64
	bytes int64
	last  time.Time
	stall time.Duration
	err   error
	news  chan struct{} // closed with the next bytes, and with err
}

// chunk is what a stream sends at a time, in bytes.
const chunk = 8 << 10

// settling is how long a stream that is to stop waits for what is under way.
const settling = time.Second

// StartStream connects from h to the echo service at an address, and sends that many bytes a second until
// [Stream.Stop]. Well below what the path carries, no segment is lost by congestion.
func StartStream(ctx context.Context, h *world.Host, to netip.Addr, rate int) (*Stream, error) {
	conn, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(to, 7).String())
	if err != nil {
		return nil, fmt.Errorf("stream from %s: %w", h.Name, err)
	}
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Stream{conn: conn, stop: stop, last: time.Now(), news: make(chan struct{})}
	s.sending.Go(func() { s.send(sctx, rate) })
	s.loops.Go(s.receive)
	return s, nil
}

// pattern is the byte at a place in the stream. Its period of 251 divides no power of two, so that lost,
// doubled or swapped segments show.
func pattern(at int64) byte { return byte(at % 251) }

func (s *Stream) send(ctx context.Context, rate int) {
	interval := time.Duration(chunk) * time.Second / time.Duration(rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := s.write(); err != nil {
			if ctx.Err() == nil {
				s.fail(err)
			}
			return
		}
		timer.Reset(time.Until(start.Add(time.Duration(n) * interval)))
	}
}

// write sends the next chunk.
func (s *Stream) write() error {
	s.mu.Lock()
	at := s.sent
	s.sent += chunk
	s.mu.Unlock()
	buf := make([]byte, chunk)
	for i := range buf {
		buf[i] = pattern(at + int64(i))
	}
	_, err := s.conn.Write(buf)
	return err
}

func (s *Stream) receive() {
	buf := make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := s.conn.Read(buf)
		for i, b := range buf[:n] {
			if b != pattern(at+int64(i)) {
				s.fail(fmt.Errorf("byte %d came back as %d, not %d", at+int64(i), b, pattern(at+int64(i))))
				return
			}
		}
		at += int64(n)
		s.moved(n)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the other end closed the connection")
			}
			s.fail(err)
			return
		}
	}
}

func (s *Stream) moved(n int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(n)
	s.stall = max(s.stall, now.Sub(s.last))
	s.last = now
	s.tell()
}

// tell wakes who waits. The caller holds s.mu.
func (s *Stream) tell() {
	close(s.news)
	s.news = make(chan struct{})
}

func (s *Stream) fail(err error) {
	if s.ended.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.tell()
	}
}

// WaitMoved waits until bytes come back again, and reports why none will.
func (s *Stream) WaitMoved(ctx context.Context) error {
	s.mu.Lock()
	before := s.bytes
	s.mu.Unlock()
	for {
		s.mu.Lock()
		news, moved, err := s.news, s.bytes != before, s.err
		s.mu.Unlock()
		if moved {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the stream ended: %w", err)
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("the stream stands still: %w (%s)", ctx.Err(), s.standstill())
		}
	}
}

// standstill is what the kernel knows of a stream that does not go on.
func (s *Stream) standstill() string {
	info, err := tcpInfo(s.conn)
	if err != nil {
		return err.Error()
	}
	ms := func(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
	return fmt.Sprintf("state %d, %d segments not acknowledged, %d in a row retransmitted at the time-out, of %d in all; sent %v, received %v, acknowledged %v ago, next after %v",
		info.State, info.Unacked, info.Retransmits, info.Total_retrans, ms(info.Last_data_sent), ms(info.Last_data_recv), ms(info.Last_ack_recv),
		time.Duration(info.Rto)*time.Microsecond)
}

// Stats is the account so far.
func (s *Stream) Stats() StreamStats {
	s.mu.Lock()
	st := StreamStats{Bytes: s.bytes, Stall: max(s.stall, time.Since(s.last)), Err: s.err}
	s.mu.Unlock()
	info, err := tcpInfo(s.conn)
	if err != nil {
		st.Err = errors.Join(st.Err, err)
		return st
	}
	st.Retransmits, st.Needless, st.OutOfOrder = int(info.Total_retrans), int(info.Dsack_dups), int(info.Rcv_ooopack)
	return st
}

// settle waits until all that was sent has come back, and then for further chunks, until one made the way without a retransmit. Whatever
// was sent again before that one has been acknowledged by then, and the other end has said whether it was needless.
func (s *Stream) settle() {
	limit := time.Now().Add(settling)
	_ = s.conn.SetWriteDeadline(limit)
	s.sending.Wait()
	// A stream that is broken, or stands still, has nothing to wait for.
	for again := s.returned(limit); again; {
		before := s.Stats().Retransmits
		again = s.write() == nil && s.returned(limit) && s.Stats().Retransmits > before
	}
}

// returned waits until all that was sent has come back, and reports whether it has.
func (s *Stream) returned(limit time.Time) bool {
	timeout := time.NewTimer(time.Until(limit))
	defer timeout.Stop()
	for {
		s.mu.Lock()
		news, all, err := s.news, s.bytes == s.sent, s.err
		s.mu.Unlock()
		if all || err != nil {
			return all && err == nil
		}
		select {
		case <-news:
		case <-timeout.C:
			return false
		}
	}
}

// Stop ends the stream and returns its account.
func (s *Stream) Stop() StreamStats {
	s.stop()
	s.settle()
	st := s.Stats()
	s.ended.Store(true)
	_ = s.conn.Close()
	s.loops.Wait()
	return st
}

// tcpInfo is TCP_INFO (tcp(7)).
func tcpInfo(conn net.Conn) (*unix.TCPInfo, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is no TCP connection", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read TCP_INFO: %w", err)
	}
	var info *unix.TCPInfo
	var ierr error
	err = raw.Control(func(fd uintptr) { info, ierr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(err, ierr); err != nil {
		return nil, fmt.Errorf("read TCP_INFO: %w", err)
	}
	return info, nil
}
