package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// fake is a handler of functions; what is nil answers at once that all is well.
type fake struct {
	add    func(context.Context, cnirpc.Request) (bool, error)
	check  func(context.Context, cnirpc.Request) (bool, error)
	del    func(context.Context, cnirpc.Request) error
	gc     func(context.Context, cnirpc.Request) error
	status func(context.Context) error
	// member: Add says at once that the pod is one.
	member bool
}

func (f fake) Add(ctx context.Context, q cnirpc.Request, pending func()) (bool, error) {
	if f.member {
		pending()
	}
	if f.add == nil {
		return f.member, nil
	}
	return f.add(ctx, q)
}

func (f fake) Check(ctx context.Context, q cnirpc.Request) (bool, error) {
	if f.check == nil {
		return false, nil
	}
	return f.check(ctx, q)
}

func (f fake) Del(ctx context.Context, q cnirpc.Request) error {
	if f.del == nil {
		return nil
	}
	return f.del(ctx, q)
}

func (f fake) GC(ctx context.Context, q cnirpc.Request) error {
	if f.gc == nil {
		return nil
	}
	return f.gc(ctx, q)
}

func (f fake) Status(ctx context.Context) error {
	if f.status == nil {
		return nil
	}
	return f.status(ctx)
}

// observed collects observations, without their time.
type observed struct {
	mu  sync.Mutex
	all []Observation
}

func (o *observed) add(x Observation) {
	if x.Took < 0 {
		panic("a request took less than no time")
	}
	x.Took = 0
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, x)
}

// start runs a server with the options o until the test ends or stop is called, which returns what Run did.
func start(t *testing.T, o Options) (socket string, stop func() error) {
	t.Helper()
	if o.Socket == "" {
		o.Socket = filepath.Join(t.TempDir(), "agent", "cni.sock")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return o.Socket, run(t, s)
}

func run(t *testing.T, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return stop
}

// ask calls the agent with a limit that no test comes near unless it is broken.
func ask(t *testing.T, socket string, q cnirpc.Request) (cnirpc.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return cnirpc.Call(ctx, socket, q)
}

func TestVerbs(t *testing.T) {
	var seen observed
	var got []cnirpc.Request
	keep := func(ctx context.Context, q cnirpc.Request) error { got = append(got, q); return ctx.Err() }
	member := func(ctx context.Context, q cnirpc.Request) (bool, error) { return true, keep(ctx, q) }
	socket, _ := start(t, Options{
		Handler: fake{
			add: member, check: member, del: keep, gc: keep,
			status: func(ctx context.Context) error { return keep(ctx, cnirpc.Request{Verb: cnirpc.Status}) },
		},
		Observe: seen.add,
	})
	var want []cnirpc.Request
	var wantSeen []Observation
	for _, verb := range []cnirpc.Verb{cnirpc.Add, cnirpc.Check, cnirpc.Del, cnirpc.GC, cnirpc.Status, "TUNE"} {
		q := cnirpc.Request{Verb: verb, Pod: cnirpc.Pod{Namespace: "payments", Name: "web-0"}, ContainerID: "c0ffee"}
		reply, err := ask(t, socket, q)
		isMember := verb == cnirpc.Add || verb == cnirpc.Check
		if reply.Member != isMember {
			t.Errorf("%s: member %v, want %v", verb, reply.Member, isMember)
		}
		if verb == "TUNE" {
			if cnirpc.KindOf(err) != cnirpc.Unsupported {
				t.Errorf("%s: error %v, want kind %s", verb, err, cnirpc.Unsupported)
			}
			wantSeen = append(wantSeen, Observation{Verb: unknownVerb, Outcome: "unsupported"})
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", verb, err)
		}
		wantSeen = append(wantSeen, Observation{Verb: string(verb), Outcome: "ok", Member: isMember})
		if verb == cnirpc.Status {
			q = cnirpc.Request{Verb: cnirpc.Status}
		} else {
			q.Version = cnirpc.Version
		}
		want = append(want, q)
	}
	ignore := cmpopts.IgnoreFields(cnirpc.Request{}, "TimeoutMillis", "Interim")
	if diff := gocmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(wantSeen, seen.all); diff != "" {
		t.Errorf("observations (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want cnirpc.Error
	}{
		{"plain", errors.New("open netns: no such file"), cnirpc.Error{Kind: cnirpc.Internal, Message: "open netns: no such file"}},
		{
			"typed", fmt.Errorf("join pod web-0: %w", &cnirpc.Error{Kind: cnirpc.TryAgain, Message: "no kill switch"}),
			cnirpc.Error{Kind: cnirpc.TryAgain, Message: "join pod web-0: no kill switch"},
		},
		{"long", errors.New(strings.Repeat("x", 100_000)), cnirpc.Error{Kind: cnirpc.Internal, Message: strings.Repeat("x", maxMessage) + "…"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen observed
			socket, _ := start(t, Options{
				Handler: fake{add: func(context.Context, cnirpc.Request) (bool, error) { return true, tt.err }},
				Observe: seen.add,
			})
			reply, _ := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add})
			if diff := gocmp.Diff(cnirpc.Reply{Version: cnirpc.Version, Member: true, Error: &tt.want}, reply); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff([]Observation{{Verb: "ADD", Outcome: string(tt.want.Kind), Member: true}}, seen.all); diff != "" {
				t.Errorf("observations (-want +got):\n%s", diff)
			}
		})
	}
}

// Members that wait for their gateway must not keep the others from being answered.
func TestManyAtOnce(t *testing.T) {
	const members, others = 100, 200
	release := make(chan struct{})
	waiting := make(chan struct{}, members)
	var seen observed
	socket, _ := start(t, Options{
		Handler: fake{add: func(ctx context.Context, q cnirpc.Request) (bool, error) {
			if q.Pod.Name != "member" {
				return false, nil
			}
			waiting <- struct{}{}
			select {
			case <-release:
				return true, nil
			case <-ctx.Done():
				return true, ctx.Err()
			}
		}},
		Observe: seen.add,
	})
	add := func(wg *sync.WaitGroup, name string) {
		wg.Go(func() {
			reply, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add, Pod: cnirpc.Pod{Name: name}})
			if err != nil || reply.Member != (name == "member") {
				t.Errorf("%s: reply %+v, error %v", name, reply, err)
			}
		})
	}
	var slow, fast sync.WaitGroup
	for range members {
		add(&slow, "member")
	}
	for range members {
		<-waiting
	}
	for range others {
		add(&fast, "other")
	}
	fast.Wait() // while every member waits
	close(release)
	slow.Wait()
	want := append(slices.Repeat([]Observation{{Verb: "ADD", Outcome: "ok"}}, others),
		slices.Repeat([]Observation{{Verb: "ADD", Outcome: "ok", Member: true}}, members)...)
	byMember := func(a, b Observation) int { return cmp.Compare(fmt.Sprint(a.Member), fmt.Sprint(b.Member)) }
	slices.SortFunc(seen.all, byMember)
	if diff := gocmp.Diff(want, seen.all); diff != "" {
		t.Errorf("observations (-want +got):\n%s", diff)
	}
}

func TestBound(t *testing.T) {
	const bound, requests = 3, 12
	var mu sync.Mutex
	now, most := 0, 0
	entered, release := make(chan struct{}, requests), make(chan struct{})
	socket, _ := start(t, Options{MaxRequests: bound, Handler: fake{del: func(context.Context, cnirpc.Request) error {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		entered <- struct{}{}
		<-release
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}}})
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if _, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Del}); err != nil {
				t.Error(err)
			}
		})
	}
	for range bound {
		<-entered
	}
	close(release)
	wg.Wait()
	if most != bound {
		t.Errorf("%d requests were served at once, want %d", most, bound)
	}
}

// A handler that does not come to an end is told to, in time for the plugin to hear of it.
func TestSlowHandler(t *testing.T) {
	slow := fake{add: func(ctx context.Context, _ cnirpc.Request) (bool, error) {
		<-ctx.Done()
		return true, fmt.Errorf("wait for gateway: %w", context.Cause(ctx))
	}}
	want := cnirpc.Reply{
		Version: cnirpc.Version, Member: true,
		Error: &cnirpc.Error{Kind: cnirpc.Unavailable, Message: "wait for gateway: context deadline exceeded"},
	}
	for _, tt := range []struct {
		name           string
		plugin, server time.Duration
	}{
		{"the plugin's limit", 2 * time.Second, time.Hour},
		{"the agent's limit", time.Minute, 50 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			socket, _ := start(t, Options{Handler: slow, MaxTime: tt.server})
			ctx, cancel := context.WithTimeout(t.Context(), tt.plugin)
			defer cancel()
			reply, err := cnirpc.Call(ctx, socket, cnirpc.Request{Verb: cnirpc.Add})
			if cnirpc.KindOf(err) != cnirpc.Unavailable {
				t.Errorf("error %v", err)
			}
			if diff := gocmp.Diff(want, reply); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

// A member gets more time than the plugin has patience for those that may be none.
func TestPending(t *testing.T) {
	const patience = 100 * time.Millisecond
	for _, tt := range []struct {
		name   string
		member bool
		want   cnirpc.Kind
	}{{"a member", true, ""}, {"not known", false, cnirpc.Unavailable}} {
		t.Run(tt.name, func(t *testing.T) {
			slow := fake{member: tt.member, add: func(ctx context.Context, _ cnirpc.Request) (bool, error) {
				select {
				case <-time.After(3 * patience):
					return true, nil
				case <-ctx.Done():
					return false, ctx.Err()
				}
			}}
			socket, _ := start(t, Options{Handler: slow})
			reply, err := ask(t, socket, cnirpc.Request{Verb: cnirpc.Add, Patience: patience})
			if cnirpc.KindOf(err) != tt.want || reply.Member != tt.member {
				t.Errorf("member %v, error %v, want member %v and an error of kind %q", reply.Member, err, tt.member, tt.want)
			}
		})
	}
}

func TestNoHandler(t *testing.T) {
	if _, err := New(Options{Socket: filepath.Join(t.TempDir(), "s.sock")}); err == nil {
		t.Error("a server without a handler was made")
	}
	for _, tt := range []struct{ name, socket string }{
		{"too long", filepath.Join(t.TempDir(), strings.Repeat("x", 200))},
		{"below a file", filepath.Join(os.Args[0], "s.sock")},
	} {
		if _, err := New(Options{Handler: fake{}, Socket: tt.socket}); err == nil {
			t.Errorf("%s: a server was made", tt.name)
		}
	}
}
