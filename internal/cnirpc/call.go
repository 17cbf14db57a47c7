package cnirpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// ConnectTimeout is how long [Call] tries to connect. On one machine that takes microseconds, or the agent is away.
	ConnectTimeout = 100 * time.Millisecond
	// ReturnTimeout is how long an Add waits for an agent that is about to come back: its socket is there and nobody listens,
	// or it went with the request. Agents leave their socket behind for this, unless they were uninstalled.
	ReturnTimeout = 3 * time.Second
	// MemberTimeout is how much longer an agent may take that has said that an Add's pod is a member. It is at work then, and what it
	// does waits for the kernel's one lock for all networking, on a node that starts a hundred pods at once for seconds. To give up would
	// have the runtime undo all of the pod's network and begin anew, which waits for the same lock. Kubelet waits for two minutes.
	MemberTimeout = 30 * time.Second
	// Beat is how often an agent touches its socket.
	Beat = 5 * time.Second
	// Recent is how long ago the socket was touched, at the most, when its agent is about to come back. One that is away
	// for longer holds up nobody.
	Recent = 3 * Beat
)

const (
	// connectAgain is the time between tries while the queue of the agent's socket is full, or nobody listens there.
	connectAgain = 5 * time.Millisecond
	// hungUpAgain is the time before a request is made again whose agent has ended.
	hungUpAgain = 50 * time.Millisecond
	// margin of the time that remains is kept back from the agent, so that its answer, which may be that
	// it ran out of time, still finds the plugin, on a node that starts a hundred pods at once, too.
	margin    = 5 // of which one part
	maxMargin = time.Second
)

// ErrAway is returned by [Call] when nobody listens at the socket.
var ErrAway = errors.New("the tailgate agent is away")

// Call asks the agent at socket, for as long as ctx allows, which the agent is told. The error is the reply's own
// [*Error], with the reply; else there is no reply: [ErrAway], ctx's error, or what broke the connection. To an Add whose pod the
// agent has called a member, and then said no more, it is one of the kind [TryAgain].
func Call(ctx context.Context, socket string, q Request) (Reply, error) {
	q.Interim = q.Verb == Add
	first, cancel := ctx, context.CancelFunc(func() {})
	if q.Patience > 0 {
		first, cancel = context.WithTimeout(ctx, q.Patience)
	}
	defer cancel()
	reply, member, err := call(ctx, first, socket, q)
	if q.Verb == Add && hungUp(err) {
		// The agent ended in the middle. The next takes the request up.
		patience := time.After(ReturnTimeout)
		for again := true; again && hungUp(err); {
			select {
			case <-time.After(hungUpAgain):
				var said bool
				reply, said, err = call(ctx, until(first, ctx, member), socket, q)
				member = member || said
			case <-patience:
				again = false
			case <-until(first, ctx, member).Done():
				again = false
			}
		}
	}
	switch {
	case err == nil && reply.Error != nil:
		return reply, reply.Error
	case err != nil && member:
		return Reply{}, &Error{Kind: TryAgain, Message: fmt.Sprintf(
			"a group selects the pod, and the agent did not say in time that what it sends can leave no wrong way (%v)", err)}
	}
	return reply, err
}

// until returns the context that ends the wait: first, or, for a pod that is known to be a member, all.
func until(first, all context.Context, member bool) context.Context {
	if member {
		return all
	}
	return first
}

// call asks once. The agent's first word is to come before first ends, its answer before ctx does. member: the agent has said that the
// pod is one, whatever came after that.
func call(ctx, first context.Context, socket string, q Request) (reply Reply, member bool, err error) {
	conn, err := connect(first, socket, q.Verb == Add)
	if err != nil {
		return Reply{}, false, fmt.Errorf("ask agent at %s: %w: %w", socket, ErrAway, err)
	}
	defer conn.Close()
	hurry := func() { _ = conn.SetDeadline(time.Unix(1, 0)) }
	patient := context.AfterFunc(first, hurry)
	defer patient()
	defer context.AfterFunc(ctx, hurry)()
	if deadline, ok := first.Deadline(); ok {
		left := time.Until(deadline)
		q.TimeoutMillis = max(1, (left - min(left/margin, maxMargin)).Milliseconds())
	}
	ends := first
	reply, member, err = exchange(conn, q, func() {
		if patient() {
			ends = ctx
		}
	})
	if err != nil {
		if ends.Err() != nil {
			err = context.Cause(ends)
		}
		return Reply{}, member, fmt.Errorf("ask agent at %s for %s: %w", socket, q.Verb, err)
	}
	return reply, member, nil
}

// hungUp reports whether the agent ended the connection without an answer, which it does only when it ends itself.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// exchange sends the request and returns the answer; it calls pending when the agent has said that the pod is a member.
func exchange(conn net.Conn, q Request, pending func()) (reply Reply, member bool, err error) {
	if err := WriteRequest(conn, q); err != nil {
		return Reply{}, false, err
	}
	// The writing side stays open: its end would tell the agent that the plugin has gone.
	r := bounded(conn, 2*MaxReply)
	reply, err = readReply(r)
	if err == nil && reply.Pending {
		member = reply.Member
		pending()
		reply, err = readReply(r)
	}
	return reply, member, err
}

// recent reports whether an agent listened at the socket a moment ago.
func recent(socket string) bool {
	info, err := os.Lstat(socket)
	return err == nil && info.Mode().Type() == fs.ModeSocket && time.Since(info.ModTime()) < Recent
}

// connect dials socket. The kernel refuses at once while the socket's queue is full; that is no reason to give up. Nor is, for who is
// patient, that nobody listens: an agent that ends leaves its socket for the next.
func connect(ctx context.Context, socket string, patient bool) (net.Conn, error) {
	timeout := ConnectTimeout
	if patient {
		timeout = ReturnTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil || !errors.Is(err, syscall.EAGAIN) && !(patient && errors.Is(err, syscall.ECONNREFUSED) && recent(socket)) {
			return conn, err
		}
		select {
		case <-time.After(connectAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}
