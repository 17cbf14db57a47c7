package daemon

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// queue holds the pods and groups that are to be looked at again, each once. What it is for asks the runtime's cache, whose
// answers call back, so it cannot be done where the news come in. Make it with newQueue.
type queue struct {
	settle      func(types.UID)
	settleGroup func(string)
	wake        chan struct{}

	mu     sync.Mutex
	pods   map[types.UID]bool
	groups map[string]bool
}

func newQueue(settle func(types.UID), settleGroup func(string)) *queue {
	return &queue{settle: settle, settleGroup: settleGroup, wake: make(chan struct{}, 1), pods: map[types.UID]bool{}, groups: map[string]bool{}}
}

// add has a pod looked at. It never blocks.
func (q *queue) add(uid types.UID) {
	q.mu.Lock()
	q.pods[uid] = true
	q.mu.Unlock()
	q.poke()
}

// addGroup has a group's gateway looked for. It never blocks.
func (q *queue) addGroup(name string) {
	q.mu.Lock()
	q.groups[name] = true
	q.mu.Unlock()
	q.poke()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns what is waiting, once.
func (q *queue) take() (pods []types.UID, groups []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pods, groups = slices.Collect(maps.Keys(q.pods)), slices.Sorted(maps.Keys(q.groups))
	clear(q.pods)
	clear(q.groups)
	return pods, groups
}

// run looks until ctx ends.
func (q *queue) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		pods, groups := q.take()
		for _, name := range groups { // first: their members wait for them
			q.settleGroup(name)
		}
		for _, uid := range pods {
			q.settle(uid)
		}
	}
}
