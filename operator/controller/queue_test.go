package controller

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func testQueue() priorityqueue.PriorityQueue[reconcile.Request] {
	s := &shared{log: logr.Discard()}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Millisecond, time.Second)
	return s.newQueue("test", limiter).(priorityqueue.PriorityQueue[reconcile.Request])
}

// TestQueueEnds: workers leave when the queue ends, whatever they do then. Without our own end some stay, in
// one of a few rounds.
func TestQueueEnds(t *testing.T) {
	const rounds, workers, enough = 50, 20, 2000
	for range rounds {
		q := testQueue()
		busy := make(chan struct{})
		var handed sync.Mutex
		n := 0
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := 0; ; i++ {
					q.Add(named(strconv.Itoa(w) + "-" + strconv.Itoa(i)))
					req, _, shutdown := q.GetWithPriority()
					if shutdown {
						return
					}
					q.Done(req)
					handed.Lock()
					if n++; n == enough {
						close(busy)
					}
					handed.Unlock()
				}
			})
		}
		<-busy
		q.ShutDown()
		left := make(chan struct{})
		go func() {
			wg.Wait()
			close(left)
		}()
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Fatal("a worker stays")
		}
		if _, shutdown := q.Get(); !shutdown || !q.ShuttingDown() {
			t.Fatal("the queue goes on")
		}
		q.ShutDown() // once more is no error
	}
}

// TestQueueHasPriorities: the queue is what it was, but for its end.
func TestQueueHasPriorities(t *testing.T) {
	q := testQueue()
	defer q.ShutDown()
	low := -100
	q.AddWithOpts(priorityqueue.AddOpts{Priority: &low}, named("first"))
	q.Add(named("urgent"))
	for _, want := range []string{"urgent", "first"} {
		req, _, shutdown := q.GetWithPriority()
		if shutdown || req != named(want) {
			t.Errorf("got %v, want %s (it ended: %t)", req, want, shutdown)
		}
		q.Done(req)
	}
}
