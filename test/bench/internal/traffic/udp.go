//go:build linux

package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// datagram is the payload of a datagram in bytes; it begins with the job's ID.
	datagram = 64
	// batch is how many datagrams a system call sends or receives.
	batch = 64
	// receiveBuffer is large, so that what is counted is what the path delivers, in bytes.
	receiveBuffer = 16 << 20
)

// counter counts the datagrams that arrive, by job.
type counter struct {
	mu   sync.Mutex
	seen map[uint64]uint64
}

func (c *counter) of(id uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id]
}

// listen counts as long as the process lives.
func (c *counter) listen(ctx context.Context) error {
	c.seen = map[uint64]uint64{}
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", fmt.Sprintf(":%d", servePort))
	if err != nil {
		return fmt.Errorf("count datagrams: %w", err)
	}
	if err := enlarge(pc); err != nil {
		return errors.Join(fmt.Errorf("count datagrams: %w", err), pc.Close())
	}
	go c.receive(ipv4.NewPacketConn(pc))
	return nil
}

func enlarge(pc net.PacketConn) error {
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("%T is no UDP socket", pc)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	})
	return errors.Join(err, serr)
}

func (c *counter) receive(pc *ipv4.PacketConn) {
	msgs := make([]ipv4.Message, batch)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, 2*datagram)}
	}
	for {
		n, err := pc.ReadBatch(msgs, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about something else
		}
		c.mu.Lock()
		for _, m := range msgs[:n] {
			if m.N == datagram {
				c.seen[binary.BigEndian.Uint64(m.Buffers[0])]++
			}
		}
		c.mu.Unlock()
	}
}

// blast sends the job's datagrams and asks how many arrived.
func blast(ctx context.Context, j Job) (Result, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", netip.AddrPortFrom(j.To, servePort).String())
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return Result{}, fmt.Errorf("%T is no UDP socket", conn)
	}
	start := time.Now()
	sent, err := j.send(ctx, ipv4.NewPacketConn(udp))
	r := Result{Sent: sent, Took: time.Since(start)}
	if err != nil {
		return r, err
	}
	r.Received, err = counted(ctx, j)
	return r, err
}

// send keeps to the rate on average: what a late wake-up missed is sent at once.
func (j Job) send(ctx context.Context, pc *ipv4.PacketConn) (sent int, err error) {
	payload := binary.BigEndian.AppendUint64(nil, j.ID)
	payload = append(payload, make([]byte, datagram-len(payload))...)
	msgs := make([]ipv4.Message, batch)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{payload}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for start := time.Now(); ; {
		elapsed := time.Since(start)
		if elapsed >= j.Lasting || ctx.Err() != nil {
			return sent, ctx.Err()
		}
		due := batch
		if j.Rate > 0 {
			due = min(int(elapsed.Seconds()*float64(j.Rate))-sent, batch)
		}
		if due <= 0 {
			timer.Reset(time.Duration(float64(batch) / 2 / float64(j.Rate) * float64(time.Second)))
			<-timer.C
			continue
		}
		n, err := pc.WriteBatch(msgs[:due], 0)
		if err != nil {
			return sent, fmt.Errorf("send datagrams: %w", err)
		}
		sent += n
	}
}

// counted asks the server how many datagrams of the job have arrived, until there are no more.
func counted(ctx context.Context, j Job) (int, error) {
	conns, err := dialServer(ctx, j.To, 1)
	for _, c := range conns {
		defer c.Close()
	}
	if err != nil {
		return 0, err
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for last := uint64(0); ; {
		var n uint64
		err := binary.Write(conns[0], binary.BigEndian, hello{For: forCount, Job: j.ID})
		if err == nil {
			err = binary.Read(conns[0], binary.BigEndian, &n)
		}
		if err != nil {
			return 0, fmt.Errorf("ask how many datagrams arrived: %w", err)
		}
		if n > 0 && n == last {
			return int(n), nil
		}
		last = n
		select {
		case <-again.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for datagrams: %w", ctx.Err())
		}
	}
}
