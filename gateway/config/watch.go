package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// defaultDebounce joins the truncating and the writing of a file that is not
// replaced atomically. Well below the 50 ms within which a change must be in force.
const defaultDebounce = 20 * time.Millisecond

// WatchOptions say what [Watch] watches.
type WatchOptions struct {
	// Paths are files; none of them need exist. More can be set later.
	Paths []string
	// Debounce is the time from the first event of a burst to the wake-up; zero:
	// 20 ms.
	Debounce time.Duration
	// OnError is told when something can no longer be watched, and so changes may
	// be missed. It is called from the watcher's goroutines, must not block, and
	// must not call [Watcher.SetPaths]. nil: nobody is told.
	OnError func(error)
	// Now is the clock that stamps wake-ups; nil: [time.Now].
	Now func() time.Time
}

// Watcher wakes its user whenever the content that one of its paths leads to may
// have changed. See [Watch].
type Watcher struct {
	// C has one element when something may have changed since the last receive: the
	// time of the first event. It is closed once the context is done and all
	// that the watcher held is released.
	C <-chan time.Time

	opts     WatchOptions
	c        chan time.Time
	fs       *fsnotify.Watcher
	names    atomic.Pointer[map[string]bool] // of the trails; other events are noise
	dirty    chan struct{}                   // an event came; holds one
	requests chan pathsRequest
	done     chan struct{}

	// Those below belong to run.
	paths   []string
	watched map[string]fileID // what was there when the watch was added
}

type pathsRequest struct {
	paths []string
	reply chan error
}

// Watch starts watching, until ctx is done. It notices every way in which the
// content at a path can change: written in place, replaced by rename, deleted,
// created, made readable, and the same for each symlink and directory on the
// way (so kubelet's swap of the ..data symlink, too). What is missing is
// watched for at the deepest directory that is there.
//
// A wake-up means "look", not "it changed"; one may come for nothing, and a burst
// of events makes one. To miss nothing, call Watch or SetPaths first and read after.
func Watch(ctx context.Context, opts WatchOptions) (*Watcher, error) {
	if opts.Debounce == 0 {
		opts.Debounce = defaultDebounce
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.OnError == nil {
		opts.OnError = func(error) {}
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("start inotify (is fs.inotify.max_user_instances too low?): %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{
		opts:     opts,
		c:        make(chan time.Time, 1),
		fs:       notify,
		dirty:    make(chan struct{}, 1),
		requests: make(chan pathsRequest),
		done:     make(chan struct{}),
		watched:  map[string]fileID{},
	}
	w.C = w.c
	w.names.Store(&map[string]bool{})
	go func() {
		defer cancel()
		w.run(ctx)
	}()
	if err := w.SetPaths(opts.Paths...); err != nil {
		cancel()
		<-w.done
		return nil, err
	}
	return w, nil
}

// SetPaths replaces the watched paths. On return the new ones are watched. The
// error says what cannot be; the rest is watched nevertheless.
func (w *Watcher) SetPaths(paths ...string) error {
	r := pathsRequest{reply: make(chan error, 1)}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		r.paths = append(r.paths, abs)
	}
	select {
	case w.requests <- r:
		return <-r.reply
	case <-w.done:
		return fmt.Errorf("watch %q: %w", paths, fs.ErrClosed)
	}
}

// run is the watcher's goroutine.
func (w *Watcher) run(ctx context.Context) {
	var pump sync.WaitGroup
	pump.Go(w.pump)
	defer func() {
		if err := w.fs.Close(); err != nil {
			w.opts.OnError(fmt.Errorf("close inotify: %w", err))
		}
		pump.Wait()
		close(w.done)
		close(w.c)
	}()
	var first time.Time // of the burst; zero: none is waiting
	timer := time.NewTimer(w.opts.Debounce)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-w.requests:
			w.paths = r.paths
			r.reply <- w.sync()
		case <-w.dirty:
			if first.IsZero() {
				first = w.opts.Now()
				timer.Reset(w.opts.Debounce)
			}
			// At once, not after the wait: what happens meanwhile behind a new
			// directory or symlink must be seen.
			if err := w.sync(); err != nil {
				w.opts.OnError(err)
			}
		case <-timer.C:
			select {
			case w.c <- first:
			default: // the user has not taken the last one, which is older
			}
			first = time.Time{}
		}
	}
}

// pump takes fsnotify's events until it closes. It is apart from run and never
// waits, because fsnotify can hold the lock that Add needs while it hands over an error.
func (w *Watcher) pump() {
	for {
		select {
		case event, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if (*w.names.Load())[filepath.Base(event.Name)] {
				w.mark()
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			w.mark() // an overflow has lost events, so look
			// EINVAL: a directory went while fsnotify removed its watch.
			if !errors.Is(err, fsnotify.ErrEventOverflow) && !errors.Is(err, syscall.EINVAL) {
				w.opts.OnError(fmt.Errorf("read inotify: %w", err))
			}
		}
	}
}

// mark tells run that something may have changed.
func (w *Watcher) mark() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// sync watches where the paths lead now. It looks again after each change of
// its own, because what it looked at may have changed before the watch was there
// or while pump did not know the name yet.
func (w *Watcher) sync() error {
	const rounds = 8
	for range rounds {
		t := follow(w.paths)
		w.forget(t)
		again, err := w.add(t)
		if !maps.Equal(*w.names.Load(), t.names) {
			again = true
			w.names.Store(&t.names)
		}
		if !again {
			return err
		}
	}
	w.mark() // it changes as fast as we look; go on, but let run see its context
	return nil
}

// forget removes the watches that t does not want, or not on that inode.
func (w *Watcher) forget(t *trails) {
	alive := w.fs.WatchList()
	for path, id := range w.watched {
		if n, ok := t.nodes[path]; ok && n.id == id && slices.Contains(alive, path) {
			continue
		}
		delete(w.watched, path)
		_ = w.fs.Remove(path) // fails when the kernel was first
	}
}

// add adds the watches that are missing and reports whether to look again.
func (w *Watcher) add(t *trails) (again bool, err error) {
	var errs []error
	for path, n := range t.nodes {
		if _, ok := w.watched[path]; ok {
			continue
		}
		switch err := w.fs.Add(path); {
		case err == nil:
			w.watched[path] = n.id
			again = true
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			again = true
		case errors.Is(err, syscall.ENOSPC):
			errs = append(errs, fmt.Errorf("watch %s: fs.inotify.max_user_watches is too low: %w", path, err))
		case n.last:
			errs = append(errs, fmt.Errorf("watch %s: changes there will be missed: %w", path, err))
		}
	}
	return again, errors.Join(errs...)
}
