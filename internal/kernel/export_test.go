//go:build linux

package kernel

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// AddRuleCopy adds a rule whether it is there or not.
func AddRuleCopy(n *Namespace, r netstate.Rule) error {
	parts, err := encodeRule(r)
	if err != nil {
		return err
	}
	return n.change(unix.RTM_NEWRULE, unix.NLM_F_CREATE, parts...)
}

// Subscription is a socket that nobody reads yet.
type Subscription struct{ socket *os.File }

// SubscribeTo subscribes to changes of the current namespace.
func SubscribeTo(groups ...uint) (Subscription, error) {
	s, err := subscribe(unix.NETLINK_ROUTE, groups)
	return Subscription{s}, err
}

// Close ends the subscription.
func (s Subscription) Close() { _ = s.socket.Close() }

// Heard returns how many messages there were since it was called last, and whether one of them wakes.
func (s Subscription) Heard(t *testing.T) (n int, wakes bool) {
	t.Helper()
	conn, err := s.socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Control(func(fd uintptr) {
		for b := make([]byte, 64); ; n++ {
			got, _, err := unix.Recvfrom(int(fd), b, 0)
			if err != nil {
				return // EAGAIN
			}
			wakes = wakes || !learned(b[:got])
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n, wakes
}

// SubscribeSmall is as SubscribeTo, with a socket whose buffer holds a few.
func SubscribeSmall(groups ...uint) (Subscription, error) {
	sub, err := SubscribeTo(groups...)
	s := sub.socket
	if err == nil {
		conn, cerr := s.SyscallConn()
		err = cerr
		if err == nil {
			err = conn.Control(func(fd uintptr) { cerr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		}
		err = errors.Join(err, cerr)
	}
	return Subscription{s}, err
}

// Start reads until the test ends. The first thing it must read is the overrun.
func (s Subscription) Start(t *testing.T) <-chan struct{} {
	t.Helper()
	wake := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(wake)
		receive(s.socket, wake)
	}()
	t.Cleanup(func() {
		if err := s.socket.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return wake
}
