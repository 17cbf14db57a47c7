//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// dumpTries bounds how often an interrupted dump is asked for again.
const dumpTries = 10

// netnsNone tells the library to stay in the thread's namespace (netns.None).
const netnsNone = -1

// netlink v1.3.1 finds out the byte order when it first needs it, without a lock. Here nobody else is about yet.
var _ = nl.NativeEndian()

// Options of [Open].
type Options struct {
	// Peer is the namespace that the other end of a veth made here goes to; nil is
	// the same namespace. It must stay open as long as the Namespace.
	Peer *netns.Handle
}

// Namespace observes and changes one network namespace. Its methods may be used by
// several goroutines at the same time, except Close.
type Namespace struct {
	ns, peer *netns.Handle
	changes  *nl.SocketHandle // with the kernel's sentence to each refusal
	dumps    *nl.SocketHandle // with filters obeyed
}

// Open returns a Namespace for ns, which must stay open as long as the Namespace is.
func Open(ns *netns.Handle, opts Options) (*Namespace, error) {
	n := &Namespace{ns: ns, peer: opts.Peer}
	if n.peer == nil {
		n.peer = ns
	}
	// A netlink socket belongs to the namespace of the thread that made it
	// (netlink(7)), so no other call has to switch threads. The library would
	// switch them itself, but go on with a thread that cannot return.
	if err := ns.Do(n.openSockets); err != nil {
		n.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return n, nil
}

func (n *Namespace) openSockets() (err error) {
	// Two sockets, because netlink v1.3.1 panics when a dump ends in an error that
	// has a text: it skips a copy of the request that only NLMSG_ERROR brings.
	if n.changes, err = newSocket(unix.NETLINK_EXT_ACK); err != nil {
		return err
	}
	// Without strict checking the kernel ignores the filters of a dump (since 4.20).
	n.dumps, err = newSocket(unix.NETLINK_GET_STRICT_CHK)
	return err
}

func newSocket(option int) (*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(netnsNone, netnsNone, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	err = errors.Join(s.SetSendTimeout(&nl.SocketTimeoutTv), s.SetReceiveTimeout(&nl.SocketTimeoutTv),
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, option, 1)))
	if err != nil {
		s.Close()
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, nil
}

// Close releases what Open took. It leaves the namespace as it is.
func (n *Namespace) Close() {
	for _, s := range []*nl.SocketHandle{n.changes, n.dumps} {
		if s != nil {
			s.Close()
		}
	}
}

// payload is bytes as a part of a netlink request.
type payload []byte

func (p payload) Len() int          { return len(p) }
func (p payload) Serialize() []byte { return p }

// header lays out a fixed-size netlink structure; those of package unix have their
// padding spelled out.
func header(v any) payload {
	b, err := binary.Append(nil, binary.NativeEndian, v)
	if err != nil {
		panic(err) // not a structure of fixed size
	}
	return b
}

func request(socket *nl.SocketHandle, msgType, flags int, parts ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(msgType, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: socket}
	for _, p := range parts {
		req.AddData(p)
	}
	return req
}

// change sends a request that the kernel only acknowledges.
func (n *Namespace) change(msgType, flags int, parts ...nl.NetlinkRequestData) error {
	_, err := request(n.changes, msgType, flags|unix.NLM_F_ACK, parts...).Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// dump returns the messages of answerType that the kernel answers with. It is the
// one place that asks for a dump.
func (n *Namespace) dump(msgType, answerType int, parts ...nl.NetlinkRequestData) ([][]byte, error) {
	req := request(n.dumps, msgType, unix.NLM_F_DUMP, parts...)
	return retryInterrupted(func() ([][]byte, error) {
		return req.Execute(unix.NETLINK_ROUTE, uint16(answerType))
	})
}

// retryInterrupted calls ask until what it returns is no interrupted dump: the kernel
// says so (NLM_F_DUMP_INTR) when something changed between two parts of its
// answer, which may then lack what was there all the time.
func retryInterrupted(ask func() ([][]byte, error)) ([][]byte, error) {
	var err error
	for range dumpTries {
		var msgs [][]byte
		if msgs, err = ask(); !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return nil, fmt.Errorf("gave up after %d tries: %w", dumpTries, err)
}

// message is a parsed answer: the structure that it begins with, and its attributes.
type message[H any] struct {
	header H
	attrs  map[uint16][]byte
	raw    []byte
}

func parse[H any](b []byte) (message[H], error) {
	m := message[H]{raw: b, attrs: map[uint16][]byte{}}
	size, err := binary.Decode(b, binary.NativeEndian, &m.header)
	if err != nil {
		return m, fmt.Errorf("parse netlink message: %w", err)
	}
	m.attrs, err = parseAttrs(b[size:])
	return m, err
}

func parseAttrs(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, fmt.Errorf("parse netlink attributes: %w", err)
	}
	attrs := make(map[uint16][]byte, len(list))
	for _, a := range list {
		attrs[a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Value
	}
	return attrs, nil
}

// u32 returns an attribute's number, 0 when it is not there.
func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func attr(kind int, value []byte) *nl.RtAttr { return nl.NewRtAttr(kind, value) }

func attr32(kind int, value uint32) *nl.RtAttr { return attr(kind, nl.Uint32Attr(value)) }

func nested(kind int, children ...nl.NetlinkRequestData) *nl.RtAttr {
	a := attr(kind|unix.NLA_F_NESTED, nil)
	for _, c := range children {
		a.AddChild(c)
	}
	return a
}
