package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// Handler does what the plugin asks for. Its methods are called by many goroutines at once. Their context ends when
// the answer would come too late, and they must then return. An error that wraps a
// [*cnirpc.Error] is sent as that one; the end of the context as [cnirpc.Unavailable]; any other as
// [cnirpc.Internal].
type Handler interface {
	// Add returns whether the pod is a member, once what it sends can leave no wrong way. As soon as it knows that the pod is
	// one it calls pending, after which the plugin does not start the pod without the answer, and waits longer for it: ctx
	// has Options.MaxTime from then on.
	Add(ctx context.Context, q cnirpc.Request, pending func()) (member bool, err error)
	// Del forgets an attachment, and succeeds when there is none.
	Del(context.Context, cnirpc.Request) error
	// Check returns whether the pod is a member, and [cnirpc.Missing] when something of it is missing.
	Check(context.Context, cnirpc.Request) (member bool, err error)
	// GC forgets the attachments of the request's network that it does not name.
	GC(context.Context, cnirpc.Request) error
	// Status returns an error when Add could not do its work now.
	Status(context.Context) error
}

// Options are the settings of a [Server].
type Options struct {
	// Socket is the path to listen at; cnirpc.Socket when empty. Its folder is made, and kept 0700.
	Socket string
	// Handler is required.
	Handler Handler
	// MaxRequests are served at once; the others wait their turn in the kernel's queue. A member that waits for its
	// gateway holds one for seconds, so it should be well above the pods that a node starts at once. 0: 512.
	MaxRequests int
	// MaxTime is the most that a request may take, whatever it asks for; an Add that is pending has it anew. 0: [cnirpc.MemberTimeout].
	MaxTime time.Duration
	// ReadTime is how long a plugin may take to send its request. 0: 2 seconds.
	ReadTime time.Duration
	// DrainTime is how long Run, when its context ends, lets requests under way go on. 0: 5 seconds.
	DrainTime time.Duration
	// Observe, if not nil, is told of each request when it has been answered.
	Observe func(Observation)
	// Logger gets what went wrong; nil: slog.Default().
	Logger *slog.Logger
}

// Observation is one request, for metrics.
type Observation struct {
	// Verb is one of cnirpc's, or "unknown".
	Verb string
	// Outcome is "ok" or a [cnirpc.Kind].
	Outcome string
	// Member is what Add and Check answered.
	Member bool
	// Took is the time from when the request was read.
	Took time.Duration
}

// unknownVerb stands in observations for all verbs that are not cnirpc's, so that a metric has no end of labels.
const unknownVerb = "unknown"

// lastCall is how long Run, once its context has ended, still accepts plugins that had connected before.
const lastCall = 20 * time.Millisecond

// acceptAgain is the time between tries to accept while the process has no file descriptor left.
const acceptAgain = 100 * time.Millisecond

// Server serves one socket. Make it with [New].
type Server struct {
	opts Options
	ln   *net.UnixListener
	own  identity
	log  *slog.Logger
}

// New listens. From then on plugins wait for Run, which must be called.
func New(o Options) (*Server, error) {
	if o.Handler == nil {
		return nil, errors.New("serve CNI plugin: no handler")
	}
	if o.Socket == "" {
		o.Socket = cnirpc.Socket
	}
	if o.MaxRequests == 0 {
		o.MaxRequests = 512
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.MaxTime, cnirpc.MemberTimeout}, {&o.ReadTime, 2 * time.Second}, {&o.DrainTime, 5 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ln, own, err := listen(o.Socket)
	if err != nil {
		return nil, fmt.Errorf("serve CNI plugin at %s: %w", o.Socket, err)
	}
	return &Server{opts: o, ln: ln, own: own, log: o.Logger}, nil
}

// Run serves until ctx ends and the requests under way are answered, and then returns nil. Nobody listens any more then, and the
// socket stays, at which plugins wait for the next agent (cnirpc.ReturnTimeout): see [Server.Remove].
func (s *Server) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer s.ln.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.ln.SetDeadline(time.Now().Add(lastCall)) })
	defer stop()

	beat := time.NewTicker(cnirpc.Beat)
	defer beat.Stop()
	go func() {
		for {
			select {
			case <-beat.C:
				s.own.touch(s.opts.Socket)
			case <-ctx.Done():
				return
			}
		}
	}()

	var requests sync.WaitGroup
	err := s.accept(ctx, work, &requests)
	s.own.touch(s.opts.Socket)
	_ = s.ln.Close() // who comes now finds the next agent
	drained := make(chan struct{})
	go func() { requests.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(s.opts.DrainTime):
		cancel()
		<-drained
	}
	return err
}

// Remove removes the socket, unless another agent has taken it over: no agent is to follow this one, and no plugin has to
// wait for it.
func (s *Server) Remove() { s.own.remove(s.opts.Socket) }

// accept serves connections until ctx ends; their work has the context work.
func (s *Server) accept(ctx, work context.Context, requests *sync.WaitGroup) error {
	places := make(chan struct{}, s.opts.MaxRequests)
	for {
		if !take(ctx, places) {
			return nil
		}
		conn, err := s.ln.AcceptUnix()
		if err != nil {
			<-places
			if ctx.Err() != nil {
				return nil
			}
			s.log.Warn("CNI: a plugin could not be accepted", "err", err)
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		requests.Go(func() {
			defer func() { <-places }()
			defer conn.Close()
			s.serve(work, conn)
		})
	}
}

// take takes a place; once ctx has ended, only if it need not wait for it.
func take(ctx context.Context, places chan<- struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
	}
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

// serve answers the one request of conn.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	if uid, err := peer(conn); err != nil || uid != 0 {
		s.log.Warn("CNI: a caller that is not root was turned away", "uid", uid, "err", err)
		return
	}
	if err := conn.SetReadDeadline(time.Now().Add(s.opts.ReadTime)); err != nil {
		return // it has gone
	}
	q, err := cnirpc.ReadRequest(conn)
	start := time.Now()
	var reply cnirpc.Reply
	switch {
	case errors.Is(err, cnirpc.ErrMalformed) || errors.Is(err, cnirpc.ErrTooLarge):
		reply.Error = &cnirpc.Error{Kind: cnirpc.Invalid, Message: err.Error()}
	case err != nil: // nobody is left to be answered
		s.log.Warn("CNI: a request did not arrive whole", "err", err)
		return
	default:
		reply = s.handle(ctx, conn, q)
	}
	s.report(q, reply, time.Since(start))
	if err := conn.SetWriteDeadline(time.Now().Add(s.opts.ReadTime)); err != nil {
		return
	}
	if err := cnirpc.WriteReply(conn, reply); err != nil {
		s.log.Warn("CNI: a plugin did not wait for its answer", attrs(q, "err", err)...)
	}
}

// handle asks the handler, for as long as the plugin waits.
func (s *Server) handle(ctx context.Context, conn *net.UnixConn, q cnirpc.Request) cnirpc.Reply {
	limit := s.opts.MaxTime
	if asked := q.TimeoutMillis; asked > 0 && asked < limit.Milliseconds() {
		limit = time.Duration(asked) * time.Millisecond
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer watch(conn, func() { cancel(nil) })()
	// Not a deadline of ctx, which could not be put off.
	late := time.AfterFunc(limit, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()

	var reply cnirpc.Reply
	var err error
	switch q.Verb {
	case cnirpc.Add:
		reply.Member, err = s.opts.Handler.Add(ctx, q, func() {
			if !q.Interim {
				return
			}
			if err := cnirpc.WriteReply(conn, cnirpc.Reply{Member: true, Pending: true}); err != nil {
				cancel(nil) // it has gone
			}
			late.Reset(s.opts.MaxTime)
		})
	case cnirpc.Del:
		err = s.opts.Handler.Del(ctx, q)
	case cnirpc.Check:
		reply.Member, err = s.opts.Handler.Check(ctx, q)
	case cnirpc.GC:
		err = s.opts.Handler.GC(ctx, q)
	case cnirpc.Status:
		err = s.opts.Handler.Status(ctx)
	default:
		err = &cnirpc.Error{Kind: cnirpc.Unsupported, Message: fmt.Sprintf("this agent does not know the verb %.20q", q.Verb)}
	}
	reply.Error = wireError(ctx, err)
	return reply
}

// wireError returns err as it goes over the wire; ctx is that of the handler which returned it.
func wireError(ctx context.Context, err error) *cnirpc.Error {
	if err == nil {
		return nil
	}
	e := &cnirpc.Error{Kind: cnirpc.Internal, Message: err.Error()}
	if kind := cnirpc.KindOf(err); kind != "" {
		e.Kind = kind
	} else if ctx.Err() != nil {
		e.Kind = cnirpc.Unavailable
	}
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage] + "…"
	}
	return e
}

// maxMessage keeps a reply well below cnirpc.MaxReply, in bytes; JSON needs up to six for one.
const maxMessage = 4096

// report logs what went wrong and tells the observer.
func (s *Server) report(q cnirpc.Request, reply cnirpc.Reply, took time.Duration) {
	o := Observation{Verb: string(q.Verb), Outcome: "ok", Member: reply.Member, Took: took}
	switch q.Verb {
	case cnirpc.Add, cnirpc.Del, cnirpc.Check, cnirpc.GC, cnirpc.Status:
	default:
		o.Verb = unknownVerb
	}
	if reply.Error != nil {
		o.Outcome = string(reply.Error.Kind)
		s.log.Warn("CNI: a request failed", attrs(q, "kind", o.Outcome, "err", reply.Error.Message)...)
	}
	if s.opts.Observe != nil {
		s.opts.Observe(o)
	}
}

// attrs returns what names a request in the log, and then more.
func attrs(q cnirpc.Request, more ...any) []any {
	return append([]any{"verb", q.Verb, "namespace", q.Pod.Namespace, "pod", q.Pod.Name, "container", q.ContainerID, "interface", q.IfName}, more...)
}
