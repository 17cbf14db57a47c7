package controller

import (
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// queue is controller-runtime's priority queue, in which what changes now is before what is looked at because the operator began,
// and which ends. In release 0.24 it can hand an item to a worker that left because of the end; then it waits for
// that worker for ever, other workers wait for it, and the manager, still the leader, for these until its grace is over
// (https://github.com/kubernetes-sigs/controller-runtime/issues/3538, mended in 0.25). So it is never told of the
// end: workers are, and what it keeps running ends with the process.
type queue struct {
	priorityqueue.PriorityQueue[reconcile.Request]
	end   sync.Once
	ended chan struct{}
}

// newQueue is what controller.Options take.
func (s *shared) newQueue(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	inner := priorityqueue.New(name, func(o *priorityqueue.Opts[reconcile.Request]) {
		o.RateLimiter, o.Log = limiter, s.log.WithValues("controller", name)
	})
	return &queue{PriorityQueue: inner, ended: make(chan struct{})}
}

// GetWithPriority waits for an item, or for the end.
func (q *queue) GetWithPriority() (reconcile.Request, int, bool) {
	type item struct {
		request  reconcile.Request
		priority int
	}
	if q.ShuttingDown() {
		return reconcile.Request{}, 0, true
	}
	got := make(chan item, 1) // room for one that comes after the end
	go func() {
		request, priority, _ := q.PriorityQueue.GetWithPriority()
		got <- item{request, priority}
	}()
	select {
	case i := <-got:
		return i.request, i.priority, false
	case <-q.ended:
		return reconcile.Request{}, 0, true
	}
}

// Get is GetWithPriority for who does not ask for it.
func (q *queue) Get() (reconcile.Request, bool) {
	request, _, shutdown := q.GetWithPriority()
	return request, shutdown
}

// ShutDown is the end.
func (q *queue) ShutDown() { q.end.Do(func() { close(q.ended) }) }

// ShutDownWithDrain is the same: who needs an item looked at does so after the next start.
func (q *queue) ShutDownWithDrain() { q.ShutDown() }

// ShuttingDown reports whether it has ended.
func (q *queue) ShuttingDown() bool {
	select {
	case <-q.ended:
		return true
	default:
		return false
	}
}
