//go:build linux

package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// servePort is the server's, TCP and UDP.
	servePort = 5201
	// chunk is what is written or read at a time, in bytes.
	chunk = 128 << 10
)

// What a connection to the server is for.
const (
	forUpload uint64 = iota + 1
	forDownload
	forCount
)

// hello is the first thing that a client says on a connection, in network byte order.
type hello struct {
	For uint64
	// Job is the job's ID.
	Job uint64
	// Streams connections share a download of Bytes.
	Streams, Bytes uint64
}

// server answers the workers of the members.
type server struct {
	datagrams counter

	mu     sync.Mutex
	shares map[uint64]*share // of the downloads that have not begun on all streams
}

// share is what the streams of one job have yet to send, together: a slow stream leaves more to the others.
type share struct {
	left   atomic.Int64 // bytes
	joined uint64       // streams
}

// take returns how much to send now; 0: all is sent.
func (s *share) take() int {
	left := s.left.Add(-chunk)
	return int(max(chunk+min(left, 0), 0))
}

// serve starts a server in the calling process's network namespace, which lives as long as the process.
func serve(ctx context.Context) error {
	s := &server{shares: map[uint64]*share{}}
	if err := s.datagrams.listen(ctx); err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", servePort))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = s.answer(c) // the client finds bytes missing
			}()
		}
	}()
	return nil
}

func (s *server) answer(c net.Conn) error {
	for {
		var h hello
		if err := binary.Read(c, binary.BigEndian, &h); err != nil {
			return err
		}
		switch h.For {
		case forUpload:
			n, err := drain(c)
			if err != nil {
				return err
			}
			return binary.Write(c, binary.BigEndian, n)
		case forDownload:
			return pump(c, s.share(h))
		case forCount:
			if err := binary.Write(c, binary.BigEndian, s.datagrams.of(h.Job)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("a client wants %d", h.For)
		}
	}
}

// share finds the share of a download, or makes it for the first of its streams.
func (s *server) share(h hello) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shares[h.Job]
	if sh == nil {
		sh = new(share)
		sh.left.Store(int64(h.Bytes))
		s.shares[h.Job] = sh
	}
	if sh.joined++; sh.joined == h.Streams {
		delete(s.shares, h.Job)
	}
	return sh
}

// pump sends until the share is used up.
func pump(w io.Writer, s *share) error {
	buf := make([]byte, chunk)
	for {
		n := s.take()
		if n == 0 {
			return nil
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// drain reads to the end and returns how many bytes there were.
func drain(r io.Reader) (uint64, error) {
	buf := make([]byte, chunk)
	for total := uint64(0); ; {
		n, err := r.Read(buf)
		total += uint64(n)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// transfer moves the job's bytes. The clock starts when all connections are there and stops when the
// last byte has been received, which for an upload the server says.
func transfer(ctx context.Context, j Job) (Result, error) {
	conns, err := dialServer(ctx, j.To, j.Streams)
	for _, c := range conns {
		defer c.Close()
	}
	if err != nil {
		return Result{}, err
	}
	sh := new(share)
	sh.left.Store(j.Bytes)
	var total atomic.Uint64
	var g errgroup.Group
	start := time.Now()
	for _, c := range conns {
		g.Go(func() error {
			n, err := j.stream(c, sh)
			total.Add(n)
			return err
		})
	}
	err = g.Wait()
	took := time.Since(start)
	if err == nil && total.Load() != uint64(j.Bytes) {
		err = fmt.Errorf("%d bytes arrived of %d", total.Load(), j.Bytes)
	}
	return Result{Took: took}, err
}

func dialServer(ctx context.Context, to netip.Addr, n int) ([]*net.TCPConn, error) {
	var conns []*net.TCPConn
	for range n {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(to, servePort).String())
		if err != nil {
			return conns, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return conns, errors.Join(fmt.Errorf("%T is no TCP connection", c), c.Close())
		}
		conns = append(conns, tcp)
		if deadline, ok := ctx.Deadline(); ok {
			if err := tcp.SetDeadline(deadline); err != nil {
				return conns, err
			}
		}
	}
	return conns, nil
}

// stream moves one connection's part and returns how many bytes arrived.
func (j Job) stream(c *net.TCPConn, sh *share) (n uint64, err error) {
	h := hello{For: forUpload, Job: j.ID, Streams: uint64(j.Streams), Bytes: uint64(j.Bytes)}
	if j.Down {
		h.For = forDownload
	}
	if err := binary.Write(c, binary.BigEndian, h); err != nil {
		return 0, err
	}
	if j.Down {
		return drain(c)
	}
	if err := errors.Join(pump(c, sh), c.CloseWrite()); err != nil {
		return 0, err
	}
	err = binary.Read(c, binary.BigEndian, &n)
	return n, err
}
