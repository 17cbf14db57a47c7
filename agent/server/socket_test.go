package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

func dial(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func mode(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String()
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agent")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, stop := start(t, Options{Handler: fake{}, Socket: filepath.Join(dir, "cni.sock")})
	if got := mode(t, dir) + " " + mode(t, socket); got != "drwx------ Srw-------" {
		t.Errorf("modes %s", got)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(socket, long, long); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(socket); err != nil || time.Since(info.ModTime()) > cnirpc.Recent {
		t.Errorf("an agent that has just ended left a socket of %v (%v)", info.ModTime(), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v, want the socket for the next agent", left, err)
	}
}

// Anyone who reaches the socket but root is turned away, unheard.
func TestPeer(t *testing.T) {
	socket, _ := start(t, Options{Handler: fake{add: func(context.Context, cnirpc.Request) (bool, error) {
		t.Error("the handler was asked")
		return true, nil
	}}})
	// As it is, the kernel keeps others out.
	if err := asNobody(t, socket); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user connected; error %v, want %v", err, fs.ErrPermission)
	}
	// Somebody opens all doors.
	for path := socket; path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := asNobody(t, socket); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("another user's request ended with %v, want a closed connection", err)
	}
}

// asNobody sends a request from a thread of another user, and returns why there was no reply.
func asNobody(t *testing.T, socket string) error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		const nobody = 65534
		// The system call itself: syscall.Setresuid would change every thread.
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			result <- errno
			return
		}
		_, err := cnirpc.Call(t.Context(), socket, cnirpc.Request{Verb: cnirpc.Check})
		result <- err
	}()
	return <-result
}

func TestBadRequests(t *testing.T) {
	var seen observed
	socket, _ := start(t, Options{Handler: fake{}, Observe: seen.add})
	// On a busy machine a large request is still being written then; only what never ends goes here.
	impatient, _ := start(t, Options{Handler: fake{}, ReadTime: 50 * time.Millisecond, Observe: seen.add})
	for _, tt := range []struct {
		name, sent string
		hangUp     bool
		want       cnirpc.Kind // "": the connection is closed
	}{
		{name: "nothing, and gone", hangUp: true},
		{name: "nothing, and waits"},
		{name: "half, and gone", sent: `{"verb":"ADD"`, hangUp: true},
		{name: "half, and waits", sent: `{"verb":"ADD"`},
		{name: "no JSON", sent: "ADD eth0\n", want: cnirpc.Invalid},
		{name: "oversized", sent: strings.Repeat("x", cnirpc.MaxRequest+1), want: cnirpc.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := socket
			if tt.want == "" && !tt.hangUp {
				to = impatient
			}
			conn := dial(t, to)
			if _, err := conn.Write([]byte(tt.sent)); err != nil {
				t.Fatal(err)
			}
			if tt.hangUp {
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			reply, err := cnirpc.ReadReply(conn)
			if tt.want == "" {
				if !errors.Is(err, io.EOF) {
					t.Errorf("reply %+v, error %v, want a closed connection", reply, err)
				}
				return
			}
			if err != nil || reply.Error == nil || reply.Error.Kind != tt.want {
				t.Errorf("reply %+v, error %v, want kind %s", reply, err, tt.want)
			}
		})
	}
	want := slices.Repeat([]Observation{{Verb: unknownVerb, Outcome: "invalid"}}, 2)
	if diff := gocmp.Diff(want, seen.all); diff != "" {
		t.Errorf("observations (-want +got):\n%s", diff)
	}
	if _, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add}); err != nil {
		t.Errorf("a good request after the bad ones: %v", err)
	}
}

// The runtime kills a plugin that takes too long; what it asked for ends with it.
func TestPluginGoes(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan error, 1)
	socket, _ := start(t, Options{Handler: fake{add: func(ctx context.Context, _ cnirpc.Request) (bool, error) {
		close(asked)
		<-ctx.Done()
		ended <- ctx.Err()
		return false, ctx.Err()
	}}})
	conn := dial(t, socket)
	if err := cnirpc.WriteRequest(conn, cnirpc.Request{Verb: cnirpc.Add}); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the context ended with %v, want %v", err, context.Canceled)
	}
}

func TestStaleSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cni.sock")
	for _, p := range []string{path, path + ".new"} { // of an agent killed while it ran, and of one killed in New
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	start(t, Options{Handler: fake{}, Socket: path})
	if _, err := ask(t, path, cnirpc.Request{Verb: cnirpc.Status}); err != nil {
		t.Error(err)
	}
}

// What is no socket is not the agent's to remove.
func TestNotASocket(t *testing.T) {
	for _, suffix := range []string{"", ".new"} {
		socket := filepath.Join(t.TempDir(), "cni.sock")
		file := socket + suffix
		if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := New(Options{Handler: fake{}, Socket: socket})
		if err == nil || !strings.Contains(err.Error(), "is not a socket; remove it") {
			t.Errorf("error %v", err)
		}
		if got, err := os.ReadFile(file); string(got) != "precious" {
			t.Errorf("the file now has %q, error %v", got, err)
		}
	}
}

// A new agent takes over from one that still runs; the old one then leaves the socket alone.
func TestTakeOver(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	old, stopOld := start(t, Options{Handler: fake{add: func(context.Context, cnirpc.Request) (bool, error) {
		close(asked)
		<-release
		return true, nil
	}}})
	var wg sync.WaitGroup
	wg.Go(func() {
		if reply, err := ask(t, old, cnirpc.Request{Verb: cnirpc.Add}); err != nil || !reply.Member {
			t.Errorf("request that began with the old agent: %+v, %v", reply, err)
		}
	})
	<-asked
	start(t, Options{Socket: old, Handler: fake{}})
	stopping := make(chan error, 1)
	go func() { stopping <- stopOld() }()
	if reply, err := ask(t, old, cnirpc.Request{Verb: cnirpc.Add}); err != nil || reply.Member {
		t.Errorf("request while both run: %+v, %v", reply, err)
	}
	close(release)
	wg.Wait()
	if err := <-stopping; err != nil {
		t.Fatal(err)
	}
	if reply, err := ask(t, old, cnirpc.Request{Verb: cnirpc.Add}); err != nil || reply.Member {
		t.Errorf("request after the old agent: %+v, %v", reply, err)
	}
}

// Agents come and go while pods are started without pause: none of the requests is lost, also where the next comes only when
// the one before has ended.
func TestRestarts(t *testing.T) {
	const restarts, askers = 20, 8
	socket, stop := start(t, Options{Handler: fake{member: true}})
	var done atomic.Bool
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for !done.Load() {
				if _, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range restarts {
		gap := i%2 == 0
		if gap {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		_, next := start(t, Options{Socket: socket, Handler: fake{member: true}})
		if err := stop(); err != nil && !gap {
			t.Error(err)
		}
		stop = next
	}
	done.Store(true)
	wg.Wait()
}

// Run answers what is under way, and in the end makes it end.
func TestStop(t *testing.T) {
	for _, tt := range []struct {
		name  string
		drain time.Duration
		end   func(ctx context.Context, stopped <-chan struct{})
		want  cnirpc.Kind
	}{
		{"drains", time.Hour, func(_ context.Context, stopped <-chan struct{}) { <-stopped }, ""},
		{"cancels", time.Millisecond, func(ctx context.Context, _ <-chan struct{}) { <-ctx.Done() }, cnirpc.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, stopped := make(chan struct{}), make(chan struct{})
			socket, stop := start(t, Options{DrainTime: tt.drain, Handler: fake{add: func(ctx context.Context, _ cnirpc.Request) (bool, error) {
				close(asked)
				tt.end(ctx, stopped)
				return true, ctx.Err()
			}}})
			answered := make(chan error, 1)
			go func() {
				_, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add})
				answered <- err
			}()
			<-asked
			ended := make(chan error, 1)
			go func() { ended <- stop() }()
			for { // first, nobody listens any more
				if _, err := cnirpc.Call(t.Context(), socket, cnirpc.Request{Verb: cnirpc.Del}); errors.Is(err, cnirpc.ErrAway) {
					break
				}
			}
			close(stopped)
			if err := <-answered; cnirpc.KindOf(err) != tt.want || tt.want == "" && err != nil {
				t.Errorf("the request ended with %v, want kind %q", err, tt.want)
			}
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// TestRemove: only the socket that is still the server's own goes.
func TestRemove(t *testing.T) {
	there := func(socket string) bool {
		_, err := os.Lstat(socket)
		return err == nil
	}
	socket := filepath.Join(t.TempDir(), "agent", "cni.sock")
	var servers []*Server
	for range 2 {
		s, err := New(Options{Socket: socket, Handler: fake{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, s)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	servers[0].Remove()
	if !there(socket) {
		t.Error("the one before took the socket of the next")
	}
	servers[1].Remove()
	if there(socket) {
		t.Error("the socket is left")
	}
}
