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

// SubscribeSmall subscribes the current namespace's changes to a socket whose buffer
// holds a few.
func SubscribeSmall(groups ...uint) (Subscription, error) {
	s, err := subscribe(unix.NETLINK_ROUTE, groups)
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
