//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// routeGroups are the changes that Subscribe tells of. The last two are changes of
// forwarding, rp_filter and their like.
var routeGroups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// Subscribe returns a channel that has a value when a link, address, neighbour, route,
// rule, forwarding sysctl or nftables object of the namespace changed since the
// last value was taken; whoever changed it. Many changes make one value, and an
// overrun makes one too, so that none is lost: subscribe, then observe. Neighbours that
// the kernel finds by itself do not count, since they come and go wherever there is traffic. The
// channel is closed when ctx is done, or when the kernel ends the subscription.
func (n *Namespace) Subscribe(ctx context.Context) (<-chan struct{}, error) {
	return n.listen(func(stop func()) func() bool { return context.AfterFunc(ctx, stop) })
}

// listen is Subscribe until what until arranges calls stop, as often as it likes; forget undoes the arrangement at the end.
func (n *Namespace) listen(until func(stop func()) (forget func() bool)) (<-chan struct{}, error) {
	var sockets []*os.File
	err := n.ns.Do(func() error {
		for protocol, groups := range map[int][]uint{
			unix.NETLINK_ROUTE: routeGroups, unix.NETLINK_NETFILTER: {unix.NFNLGRP_NFTABLES},
		} {
			s, err := subscribe(protocol, groups)
			if err != nil {
				return err
			}
			sockets = append(sockets, s)
		}
		return nil
	})
	stop := sync.OnceFunc(func() {
		for _, s := range sockets {
			_ = s.Close() // a socket that was only read from
		}
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("subscribe to changes of a network namespace: %w", err)
	}

	wake := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for _, s := range sockets {
		wg.Go(func() {
			defer stop()
			receive(s, wake)
		})
	}
	forget := until(stop)
	go func() {
		wg.Wait()
		forget()
		close(wake)
	}()
	return wake, nil
}

func subscribe(protocol int, groups []uint) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	addr := unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		addr.Groups |= 1 << (g - 1)
	}
	s := os.NewFile(uintptr(fd), "netlink")
	if err := unix.Bind(fd, &addr); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), s.Close())
	}
	return s, nil
}

// receive wakes for everything that arrives but learned neighbours, until the socket is closed. Only
// the beginning of what arrived is looked at, so a message may be cut short.
func receive(s *os.File, wake chan<- struct{}) {
	conn, err := s.SyscallConn()
	if err != nil {
		return
	}
	var buf [64]byte
	for {
		var n int
		var got error
		err := conn.Read(func(fd uintptr) bool {
			n, _, got = unix.Recvfrom(int(fd), buf[:], 0)
			return !errors.Is(got, unix.EAGAIN)
		})
		if errors.Is(got, unix.EINTR) || err == nil && got == nil && learned(buf[:n]) {
			continue
		}
		// ENOBUFS: there was more than the socket's buffer holds.
		if err != nil || got != nil && !errors.Is(got, unix.ENOBUFS) {
			return
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// learned is whether a message tells of a neighbour in a state that address resolution put it in. An entry that somebody sets
// is permanent, unless told otherwise, and one that is deleted fails first.
func learned(msg []byte) bool {
	const states = unix.NUD_INCOMPLETE | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	if len(msg) < unix.SizeofNlMsghdr+unix.SizeofNdMsg || binary.NativeEndian.Uint16(msg[4:]) != unix.RTM_NEWNEIGH {
		return false
	}
	return binary.NativeEndian.Uint16(msg[unix.SizeofNlMsghdr+8:])&states != 0 // ndm_state of struct ndmsg, rtnetlink(7)
}
