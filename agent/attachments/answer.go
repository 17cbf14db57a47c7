package attachments

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// change calls fn with the lock held, and tells who wants to know what came of it.
func (s *Store) change(fn func()) {
	s.mu.Lock()
	fn()
	s.derive()
	changed, notes := s.changed, s.notes
	s.changed, s.notes = nil, nil
	s.mu.Unlock()
	for _, note := range notes {
		note()
	}
	if s.opts.OnChange != nil {
		for _, uid := range changed {
			s.opts.OnChange(uid)
		}
	}
}

// tell returns now, and logs it once the lock is free, unless it is nil or just as it was.
func (s *Store) tell(what string, was, now error, args ...any) error {
	if now != nil && (was == nil || was.Error() != now.Error()) {
		args = append(args, "err", now)
		s.notes = append(s.notes, func() { s.opts.Logger.Warn(what, args...) })
	}
	return now
}

// derive finds out which sandbox is each pod's.
func (s *Store) derive() {
	if !s.stale || s.closed {
		return
	}
	s.stale = false
	// A path that was used again leads two claims to one namespace: it is the newer one's.
	owners := map[netns.ID]*sandbox{}
	for _, b := range s.sandboxes {
		if o := owners[b.id]; b.ns != nil && (o == nil || b.newer(o)) {
			owners[b.id] = b
		}
	}
	newest := map[types.UID]*sandbox{}
	for _, b := range owners {
		if n := newest[b.claim.PodUID]; n == nil || b.newer(n) {
			newest[b.claim.PodUID] = b
		}
	}
	pods := make(map[types.UID]Attachment, len(newest))
	for uid, b := range newest {
		pods[uid] = b.attachment()
		if was, ok := s.pods[uid]; !ok || !was.equal(pods[uid]) {
			s.changed = append(s.changed, uid)
		}
	}
	for uid := range s.pods {
		if _, ok := pods[uid]; !ok {
			s.changed = append(s.changed, uid)
		}
	}
	s.pods = pods
}

// current returns a pod's sandbox as it is in this moment.
func (s *Store) current(pod types.UID) *sandbox {
	for {
		s.derive()
		a, ok := s.pods[pod]
		if !ok {
			return nil
		}
		b := s.sandboxes[a.ContainerID]
		if s.check(b, false); s.sandboxes[a.ContainerID] == b {
			return b
		}
	}
}

// Lookup returns where a pod's network namespace is. It looks whether it is still there.
func (s *Store) Lookup(pod types.UID) (a Attachment, ok bool) {
	s.change(func() {
		if b := s.current(pod); b != nil {
			a, ok = b.attachment(), true
			a.IPs = slices.Clone(a.IPs)
		}
	})
	return a, ok
}

// Open returns a handle on a pod's network namespace, which the caller closes. It is the one that the
// attachment's ID says, whatever its path may lead to by now. The error wraps [ErrNone] when there is
// nothing to open.
func (s *Store) Open(pod types.UID) (ns *netns.Handle, a Attachment, err error) {
	s.change(func() {
		b := s.current(pod)
		if b == nil {
			err = fmt.Errorf("open network namespace of pod %s: %w", pod, ErrNone)
			return
		}
		a = b.attachment()
		a.IPs = slices.Clone(a.IPs)
		ns, err = duplicate(b.ns)
	})
	return ns, a, err
}

func duplicate(ns *netns.Handle) (*netns.Handle, error) {
	fd, err := unix.FcntlInt(uintptr(ns.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate handle of network namespace: %w", err)
	}
	h, err := netns.FromFD(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return h, nil
}

// List returns what is known of all pods, ordered by namespace, name and UID.
func (s *Store) List() []Attachment {
	s.mu.Lock()
	list := slices.Collect(maps.Values(s.pods))
	s.mu.Unlock()
	for i := range list {
		list[i].IPs = slices.Clone(list[i].IPs)
	}
	slices.SortFunc(list, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.PodUID, b.PodUID))
	})
	return list
}

// Problems returns what is not as it should be now, in order; each names its file.
func (s *Store) Problems() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []error
	for name, err := range s.problems {
		list = append(list, fmt.Errorf("%s: %w", filepath.Join(s.opts.Dir, name), err))
	}
	for _, b := range s.sandboxes {
		if b.err != nil {
			list = append(list, fmt.Errorf("pod %s/%s: %w", b.claim.Namespace, b.claim.Name, b.err))
		}
	}
	for _, err := range []error{s.listErr, s.watchErr} {
		if err != nil {
			list = append(list, err)
		}
	}
	slices.SortFunc(list, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return list
}

// Stats are numbers for metrics.
type Stats struct {
	Files    int // of the cache, about pods
	Pods     int // whose namespace is known
	LeftOver int // sandboxes that are claimed, but whose namespace is not there
	Problems int
}

// Stats counts what is known now.
func (s *Store) Stats() Stats {
	problems := len(s.Problems())
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Files: len(s.files), Pods: len(s.pods), Problems: problems}
	for _, b := range s.sandboxes {
		if b.ns == nil {
			stats.LeftOver++
		}
	}
	return stats
}
