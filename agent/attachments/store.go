package attachments

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// DefaultDir is where libcni caches the attachments that it made.
const DefaultDir = "/var/lib/cni/results"

// ErrNone says that no network namespace is known of a pod.
var ErrNone = errors.New("no network namespace is known")

var errClosed = errors.New("the store is closed")

// Options are those of a [Store].
type Options struct {
	// Dir is libcni's cache, as this process sees it; empty: [DefaultDir]. It need not exist yet. In a
	// container mount the folder above it: a mount of Dir itself would not see it replaced.
	Dir string
	// HostRoot is the folder below which this process sees the host's files, as /host for the host's
	// /run/netns mounted at /host/run/netns, with mountPropagation HostToContainer. Empty: they are
	// where they are on the host.
	HostRoot string
	// OnChange is told the UID of a pod of which [Store.Lookup] may say something else now. It is called
	// from several goroutines, must not block, and may call the Store's methods. nil: nobody is told.
	OnChange func(pod types.UID)
	// Logger is told once of each file and namespace that is not as it should be; nil: [slog.Default].
	Logger *slog.Logger
}

// Store knows the attachments of the node's pods. Its methods may be used by several goroutines.
type Store struct {
	opts   Options
	own    netns.ID // this process's namespace
	dirty  *dirty
	synced chan struct{}

	mu     sync.Mutex
	closed bool
	// What is claimed.
	files map[string]record            // by name, as they were when they could be read last
	names map[string]map[string]bool   // of a container's files
	added map[string]map[string]record // by CNI ADD, of a container by interface
	// voided are times up to which claims of an attachment do not count: it was deleted or
	// its namespace went.
	voided map[key]time.Time
	// What comes of it.
	sandboxes map[string]*sandbox // by container ID; each has a claim
	pods      map[types.UID]Attachment
	stale     bool // pods is not what comes of sandboxes
	// What is to be told when mu is free.
	changed []types.UID
	notes   []func()
	// What is wrong.
	problems          map[string]error // by file of the cache
	listErr, watchErr error            // of the cache's folder, and of inotify
}

// New returns a Store that knows nothing yet; [Store.Run] fills it. Close it after use.
func New(opts Options) (*Store, error) {
	opts.Dir = cmp.Or(opts.Dir, DefaultDir)
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the CNI result cache %s: %w", opts.Dir, err)
	}
	opts.Dir = dir
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	own, err := currentID()
	if err != nil {
		return nil, err
	}
	return &Store{
		opts:      opts,
		own:       own,
		dirty:     newDirty(),
		synced:    make(chan struct{}),
		files:     map[string]record{},
		names:     map[string]map[string]bool{},
		added:     map[string]map[string]record{},
		voided:    map[key]time.Time{},
		sandboxes: map[string]*sandbox{},
		pods:      map[types.UID]Attachment{},
		problems:  map[string]error{},
	}, nil
}

func currentID() (netns.ID, error) {
	own, err := netns.Current()
	if err != nil {
		return netns.ID{}, err
	}
	id, err := own.ID()
	return id, errors.Join(err, own.Close())
}

// Close releases all namespaces; the Store knows nothing from then on. Call it when Run has
// returned.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range s.sandboxes {
		closeNS(b.ns)
	}
	s.sandboxes, s.pods = nil, nil
}

// Synced is closed when all that the cache held at the start of Run is known. Before that, that
// a pod is not found means nothing.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// Add tells of an attachment that a CNI ADD is about, which is not in the cache yet. On return
// Lookup and Open know it. The error says why there is no such namespace; then nothing is kept.
func (s *Store) Add(c Claim) error {
	err := c.check()
	var path string
	if err == nil {
		path, err = hostPath(s.opts.HostRoot, c.NetNS)
	}
	if err != nil {
		return fmt.Errorf("add attachment %s of container %s: %w", c.IfName, c.ContainerID, err)
	}
	s.change(func() {
		if s.closed {
			err = errClosed
			return
		}
		ns, _, oerr := s.open(path)
		if err = oerr; err != nil {
			return
		}
		s.add(c)
		closeNS(ns)
	})
	if err != nil {
		return fmt.Errorf("add attachment %s of container %s: %w", c.IfName, c.ContainerID, err)
	}
	s.dirty.mark(&s.dirty.folders) // its namespace may be in a new one
	return nil
}

func (s *Store) add(c Claim) {
	if s.added[c.ContainerID] == nil {
		s.added[c.ContainerID] = map[string]record{}
	}
	r := record{Claim: c, at: tick()}
	r.IPs = slices.Clone(c.IPs)
	if until := s.voided[r.key()]; !r.at.After(until) {
		r.at = until.Add(1) // the clock is coarse, and may be set back
	}
	s.added[c.ContainerID][c.IfName] = r
	s.refresh(c.ContainerID)
}

// Delete tells of an attachment that a CNI DEL is about. What the cache says of it does not count
// any more; one that is not known is no error.
func (s *Store) Delete(containerID, ifName string) {
	s.change(func() {
		if s.closed {
			return
		}
		k, at := key{containerID, ifName}, time.Now()
		s.void(k, at)
		s.unadd(k, at)
		s.refresh(containerID)
	})
}

// tick is the time of the kernel's last tick: no file that is written from now on is older.
// ([time.Now] is later than that, so no file that was written up to now is newer.)
func tick() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return time.Now()
	}
	return time.Unix(ts.Unix())
}

// void makes claims of an attachment up to a time count no more.
func (s *Store) void(k key, until time.Time) {
	now := time.Now()
	for k, t := range s.voided {
		// A file may be seen some time after it was written, or never.
		if now.Sub(t) > time.Minute && !s.hasFile(k) {
			delete(s.voided, k)
		}
	}
	s.voided[k] = until
}

// unadd forgets what a CNI ADD said of an attachment up to a time.
func (s *Store) unadd(k key, until time.Time) {
	if r, ok := s.added[k.containerID][k.ifName]; !ok || r.at.After(until) {
		return
	}
	delete(s.added[k.containerID], k.ifName)
	if len(s.added[k.containerID]) == 0 {
		delete(s.added, k.containerID)
	}
}

func (s *Store) hasFile(k key) bool {
	for name := range s.names[k.containerID] {
		if s.files[name].IfName == k.ifName {
			return true
		}
	}
	return false
}

// claims returns what is claimed of a container and counts.
func (s *Store) claims(containerID string) []record {
	var claims []record
	for name := range s.names[containerID] {
		claims = append(claims, s.files[name])
	}
	for _, r := range s.added[containerID] {
		claims = append(claims, r)
	}
	return slices.DeleteFunc(claims, func(r record) bool {
		until, ok := s.voided[r.key()]
		return ok && !r.at.After(until)
	})
}

// setFile notes what a file claims now, or that it is gone or claims nothing.
func (s *Store) setFile(name string, now record, ok bool) {
	was, had := s.files[name]
	if had {
		delete(s.files, name)
		delete(s.names[was.ContainerID], name)
		if len(s.names[was.ContainerID]) == 0 {
			delete(s.names, was.ContainerID)
		}
	}
	if ok {
		s.files[name] = now
		if s.names[now.ContainerID] == nil {
			s.names[now.ContainerID] = map[string]bool{}
		}
		s.names[now.ContainerID][name] = true
		// From now on the file says whether the attachment is there.
		s.unadd(now.key(), now.at)
	}
	if had {
		s.refresh(was.ContainerID)
	}
	if ok && (!had || was.ContainerID != now.ContainerID) {
		s.refresh(now.ContainerID)
	}
}
