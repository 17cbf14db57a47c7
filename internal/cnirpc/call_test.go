package cnirpc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve answers each connection at a new socket with answer, and returns the socket's path.
func serve(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				answer(conn)
			}()
		}
	}()
	return socket
}

func TestCall(t *testing.T) {
	requests := make(chan Request, 1)
	replies := map[Verb]Reply{
		Add:   {Version: Version, Member: true},
		Check: {Version: Version, Member: true, Error: &Error{Kind: Missing, Message: "route 100.64.0.0/10 is gone"}},
	}
	socket := serve(t, func(conn net.Conn) {
		q, err := ReadRequest(conn)
		if err != nil {
			t.Error(err)
		}
		requests <- q
		if err := WriteReply(conn, replies[q.Verb]); err != nil {
			t.Error(err)
		}
	})
	for verb, want := range replies {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		got, err := Call(ctx, socket, Request{Verb: verb, Network: "n"})
		cancel()
		if want.Error == nil && err != nil || want.Error != nil && KindOf(err) != want.Error.Kind {
			t.Errorf("%s: error %v, want %v", verb, err, want.Error)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
		q := <-requests
		// A fifth of two seconds is kept back, and some has passed.
		if q.TimeoutMillis < 1000 || q.TimeoutMillis > 1600 {
			t.Errorf("the agent was given %d ms of 2000", q.TimeoutMillis)
		}
		q.TimeoutMillis = 0
		if diff := cmp.Diff(Request{Version: Version, Verb: verb, Network: "n", Interim: verb == Add}, q); diff != "" {
			t.Errorf("%s: request (-want +got):\n%s", verb, diff)
		}
	}
}

func TestAgentAway(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old.sock")
	if err := os.Rename(stale, old); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-Recent)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: stale}); err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []Verb{Add, Del} {
		for _, socket := range []string{filepath.Join(dir, "absent.sock"), stale, old, file} {
			ctx, cancel := context.WithTimeout(t.Context(), 4*ConnectTimeout)
			start := time.Now()
			if _, err := Call(ctx, socket, Request{Verb: verb}); !errors.Is(err, ErrAway) {
				t.Errorf("%s of %s: error %v, want %v", verb, filepath.Base(socket), err, ErrAway)
			}
			// Only an Add waits, and only where an agent was a moment ago.
			if took, waits := time.Since(start), verb == Add && socket == stale; waits != (took > 3*ConnectTimeout) {
				t.Errorf("%s of %s: took %v", verb, filepath.Base(socket), took)
			}
			cancel()
		}
	}
}

// TestAgentReturns: an Add whose agent has just ended, or ends in the middle, finds the next one.
func TestAgentReturns(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	listen := func() *net.UnixListener {
		t.Helper()
		_ = os.Remove(socket)
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	first := listen()
	type outcome struct {
		reply Reply
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		reply, err := Call(t.Context(), socket, Request{Verb: Add})
		done <- outcome{reply, err}
	}()
	conn, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if q, err := ReadRequest(conn); err != nil || !q.Interim {
		t.Errorf("request %+v, %v", q, err)
	}
	if err := WriteReply(conn, Reply{Member: true, Pending: true}); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	_ = conn.Close()
	conn, err = listen().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ReadRequest(conn); err != nil {
		t.Error(err)
	}
	if err := WriteReply(conn, Reply{Member: true}); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || !got.reply.Member || got.reply.Pending {
		t.Errorf("answer %+v", got)
	}
}

// TestPending: a pod that was called a member must not run without the answer.
func TestPending(t *testing.T) {
	for _, tt := range []struct {
		name  string
		then  func(net.Conn)
		kind  Kind
		reply Reply
	}{
		{name: "the answer", then: func(c net.Conn) { _ = WriteReply(c, Reply{Member: true}) }, reply: Reply{Version: Version, Member: true}},
		{name: "nothing", then: func(net.Conn) { <-t.Context().Done() }, kind: TryAgain},
		{name: "nonsense", then: func(c net.Conn) { _, _ = c.Write([]byte("{\n")) }, kind: TryAgain},
		{
			name: "an error", then: func(c net.Conn) { _ = WriteReply(c, Reply{Error: &Error{Kind: Internal}}) }, kind: Internal,
			reply: Reply{Version: Version, Error: &Error{Kind: Internal}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := serve(t, func(c net.Conn) {
				_, _ = ReadRequest(c)
				_ = WriteReply(c, Reply{Member: true, Pending: true})
				tt.then(c)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			reply, err := Call(ctx, socket, Request{Verb: Add})
			if KindOf(err) != tt.kind || (err == nil) != (tt.kind == "") {
				t.Errorf("error %v, want one of kind %q", err, tt.kind)
			}
			if diff := cmp.Diff(tt.reply, reply); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPatience: an agent has only so long for its first word, and longer when that was that the pod is a member.
func TestPatience(t *testing.T) {
	const patience = 100 * time.Millisecond
	for _, tt := range []struct {
		name string
		word []Reply
		want Reply
		err  error
	}{
		{name: "says nothing", err: context.DeadlineExceeded},
		{name: "says that it is a member", word: []Reply{{Member: true, Pending: true}}, want: Reply{Version: Version, Member: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := serve(t, func(c net.Conn) {
				q, _ := ReadRequest(c)
				if q.TimeoutMillis <= 0 || q.TimeoutMillis > patience.Milliseconds() {
					t.Errorf("the agent was given %d ms of %v", q.TimeoutMillis, patience)
				}
				for _, r := range tt.word {
					_ = WriteReply(c, r)
				}
				<-time.After(3 * patience)
				_ = WriteReply(c, Reply{Member: true})
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			reply, err := Call(ctx, socket, Request{Verb: Add, Patience: patience})
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, reply); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A queue that is full, of an agent that does not accept, must not hold a pod for longer than ConnectTimeout; of one
// that does, it must not turn the pod away.
func TestQueueFull(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	queued, err := d.DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()

	start := time.Now()
	_, err = Call(t.Context(), socket, Request{Verb: Del})
	if took := time.Since(start); !errors.Is(err, ErrAway) || took < ConnectTimeout {
		t.Errorf("error %v after %v, want %v after %v", err, took, ErrAway, ConnectTimeout)
	}

	go func() {
		for ours := range 2 { // the one in the queue says nothing
			conn, _, err := syscall.Accept(fd)
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(conn), "conn")
			defer f.Close()
			if ours == 1 {
				// Not before the request is read: who asks takes an end before that for an agent that ends, and asks again.
				_, _ = ReadRequest(f)
				_ = WriteReply(f, Reply{Member: true})
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if reply, err := Call(ctx, socket, Request{Verb: Add}); err != nil || !reply.Member {
		t.Errorf("reply %+v, error %v", reply, err)
	}
}

func TestAgentSaysNothing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(net.Conn)
		want   error
	}{
		{"closes", func(net.Conn) {}, nil}, // over and over

		{"half a reply", func(c net.Conn) { _, _ = c.Write([]byte(`{"member":`)) }, nil},
		{"hangs", func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); <-t.Context().Done() }, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket := serve(t, tt.answer)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			reply, err := Call(ctx, socket, Request{Verb: Add})
			if err == nil || KindOf(err) != "" || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(Reply{}, reply); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCallCancelled(t *testing.T) {
	asked := make(chan struct{})
	socket := serve(t, func(c net.Conn) { _, _ = ReadRequest(c); close(asked); <-t.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := Call(ctx, socket, Request{Verb: Add}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}
