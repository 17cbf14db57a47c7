//go:build linux

package rig

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Packet is what a [Capture] saw of a packet.
type Packet struct {
	// Out says that it left by the link, rather than came in.
	Out      bool
	Src, Dst netip.Addr
	// Proto is the IP protocol; Sport and Dport are set for TCP and UDP.
	Proto        int
	Sport, Dport uint16
	// Len is in bytes, from the IP header on.
	Len int
}

// String returns the packet in words.
func (p Packet) String() string {
	way := "in"
	if p.Out {
		way = "out"
	}
	return fmt.Sprintf("%s %v:%d > %v:%d protocol %d, %d bytes", way, p.Src, p.Sport, p.Dst, p.Dport, p.Proto, p.Len)
}

// Capture counts the packets on one link that a filter picks.
type Capture struct {
	h    *world.Host
	link string
	f    *os.File
	keep func(Packet) bool

	mu      sync.Mutex
	seen    []Packet // the first few
	count   int
	markers map[uint16]chan struct{} // by destination port
	done    sync.WaitGroup
}

// examples is how many packets a capture keeps.
const examples = 5

// StartCapture captures on a link of h (packet(7)) what keep is true for; nil: all IP packets. Packets on their
// way out are seen after nftables, packets on their way in before. IPv6's neighbour discovery is left out: a
// router asks now and then whether a neighbour is still there, as it does for IPv4 by ARP.
func StartCapture(h *world.Host, link string, keep func(Packet) bool) (*Capture, error) {
	var fd int
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		err = errors.Join(
			os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)),
			os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifi.Index})),
		)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s of %s: %w", link, h.Name, err)
	}
	c := &Capture{h: h, link: link, f: os.NewFile(uintptr(fd), "capture"), keep: keep, markers: map[uint16]chan struct{}{}}
	c.done.Go(c.read)
	return c, nil
}

func htons(v uint16) uint16 { return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)) }

func (c *Capture) read() {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 65536)
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err != nil {
			return // stopped
		}
		if rerr != nil {
			continue // the link went down or away
		}
		if p, ok := parsePacket(buf[:n]); ok {
			ll, isLink := from.(*unix.SockaddrLinklayer)
			p.Out = isLink && ll.Pkttype == unix.PACKET_OUTGOING
			c.see(p)
		}
	}
}

func (c *Capture) see(p Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.Proto == unix.IPPROTO_UDP {
		if ch, ok := c.markers[p.Dport]; ok {
			delete(c.markers, p.Dport)
			close(ch)
			return
		}
	}
	if c.keep != nil && !c.keep(p) {
		return
	}
	c.count++
	if len(c.seen) < examples {
		c.seen = append(c.seen, p)
	}
}

// Types of ICMPv6 messages that are neighbour discovery (RFC 4861, section 4).
const firstND, lastND = 133, 137

// parsePacket reads the IP header and the ports behind it (RFC 791, RFC 8200). IPv6 extension headers
// are not followed: nothing here sends any.
func parsePacket(b []byte) (p Packet, ok bool) {
	var rest []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		p = Packet{Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])), Proto: int(b[9]), Len: len(b)}
		rest = b[min(int(b[0]&15)*4, len(b)):]
	case len(b) >= 40 && b[0]>>4 == 6:
		p = Packet{Src: netip.AddrFrom16([16]byte(b[8:24])), Dst: netip.AddrFrom16([16]byte(b[24:40])), Proto: int(b[6]), Len: len(b)}
		rest = b[40:]
	default:
		return p, false
	}
	if p.Proto == unix.IPPROTO_ICMPV6 && len(rest) > 0 && rest[0] >= firstND && rest[0] <= lastND {
		return p, false
	}
	if (p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP) && len(rest) >= 4 {
		p.Sport, p.Dport = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	}
	return p, true
}

// Count returns how many packets the filter picked, and the first few.
func (c *Capture) Count() (n int, first []Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count, slices.Clone(c.seen)
}

// Sync proves that the capture works, and that it has seen all that went before: it sends a datagram from the host to
// an address that lies out by the link, and waits until the capture has seen that. The datagram is not counted.
func (c *Capture) Sync(ctx context.Context, to netip.Addr) error {
	return c.SyncFrom(ctx, c.h, to)
}

// SyncFrom is Sync with a datagram from another host, for a link whose own host sends nothing by it.
func (c *Capture) SyncFrom(ctx context.Context, h *world.Host, to netip.Addr) error {
	c.mu.Lock()
	port := uint16(60000 + time.Now().UnixNano()%5000)
	for c.markers[port] != nil {
		port++
	}
	seen := make(chan struct{})
	c.markers[port] = seen
	c.mu.Unlock()
	err := Retry(ctx, func(ctx context.Context) error {
		conn, err := h.Dial(ctx, "udp", netip.AddrPortFrom(to, port).String())
		if err == nil {
			_, err = conn.Write([]byte("marker"))
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			return err
		}
		again := time.NewTimer(100 * time.Millisecond)
		defer again.Stop()
		select {
		case <-seen:
			return nil
		case <-again.C:
			return errors.New("marker not seen yet")
		}
	})
	if err != nil {
		return fmt.Errorf("capture on %s of %s does not see a packet from %s to %v: %w", c.link, c.h.Name, h.Name, to, err)
	}
	return nil
}

// Stop ends the capture; Count stays.
func (c *Capture) Stop() {
	_ = c.f.Close()
	c.done.Wait()
}

// Spray sends n UDP datagrams from h to an address and port, an interval apart, whatever becomes of them; with
// link, from a socket that insists on that link (SO_BINDTODEVICE, socket(7)), which needs no privilege. It returns
// the last error that the kernel gave.
func Spray(ctx context.Context, h *world.Host, to netip.AddrPort, link string, n int, interval time.Duration) error {
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	pc, err := h.ListenPacket(network, ":0")
	if err != nil {
		return fmt.Errorf("send from %s: %w", h.Name, err)
	}
	defer pc.Close()
	if conn, ok := pc.(*net.UDPConn); ok && link != "" {
		if err := bindTo(conn, link); err != nil {
			return fmt.Errorf("bind socket in %s to %s: %w", h.Name, link, err)
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for range n {
		if _, err := pc.WriteTo([]byte("spray"), net.UDPAddrFromAddrPort(to)); err != nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return last
}

func bindTo(conn *net.UDPConn, link string) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.BindToDevice(int(fd), link) })
	return errors.Join(err, serr)
}
