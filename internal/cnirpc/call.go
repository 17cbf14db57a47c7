package cnirpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// ConnectTimeout is how long [Call] tries to connect. On one machine that takes microseconds, or the agent is away.
const ConnectTimeout = 100 * time.Millisecond

const (
	// connectAgain is the time between tries while the queue of the agent's socket is full.
	connectAgain = 5 * time.Millisecond
	// margin of the time that remains is kept back from the agent, so that its answer, which may be that
	// it ran out of time, still finds the plugin.
	margin    = 10 // of which one part
	maxMargin = 250 * time.Millisecond
)

// ErrAway is returned by [Call] when nobody listens at the socket.
var ErrAway = errors.New("the tailgate agent is away")

// Call asks the agent at socket, for as long as ctx allows, which the agent is told. The error is the reply's own
// [*Error], with the reply; else there is no reply: [ErrAway], ctx's error, or what broke the connection.
func Call(ctx context.Context, socket string, q Request) (Reply, error) {
	conn, err := connect(ctx, socket)
	if err != nil {
		return Reply{}, fmt.Errorf("ask agent at %s: %w: %w", socket, ErrAway, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		q.TimeoutMillis = max(1, (left - min(left/margin, maxMargin)).Milliseconds())
	}
	reply, err := exchange(conn, q)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Reply{}, fmt.Errorf("ask agent at %s for %s: %w", socket, q.Verb, err)
	}
	if reply.Error != nil {
		return reply, reply.Error
	}
	return reply, nil
}

func exchange(conn net.Conn, q Request) (Reply, error) {
	if err := WriteRequest(conn, q); err != nil {
		return Reply{}, err
	}
	// The writing side stays open: its end would tell the agent that the plugin has gone.
	return ReadReply(conn)
}

// connect dials socket. The kernel refuses at once while the socket's queue is full; that is no reason to give up.
func connect(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil || !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(connectAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}
