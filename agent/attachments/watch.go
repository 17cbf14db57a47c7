package attachments

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// watcher marks as dirty what inotify tells of. It watches folders and all folders above them, so that
// a folder that comes, goes or is replaced is noticed wherever that happens.
type watcher struct {
	fs      *fsnotify.Watcher
	dirty   *dirty
	view    atomic.Pointer[view]
	watched map[string]folder // what was at a path when it was added, and what it was for
	pump    sync.WaitGroup
}

// folderID tells whether two paths lead to the same folder.
type folderID struct{ dev, ino uint64 }

// view is what to watch, and what its events mean.
type view struct {
	folders map[string]*folder // by path; each inode once, as inotify has one watch for it
	byID    map[folderID]*folder
}

type folder struct {
	id           folderID
	cache, netns bool            // what is in it is
	steps        map[string]bool // names in it that lead to such a folder
}

func watch(d *dirty) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("start inotify (is fs.inotify.max_user_instances too low?): %w", err)
	}
	w := &watcher{fs: notify, dirty: d, watched: map[string]folder{}}
	w.view.Store(&view{})
	w.pump.Go(w.run)
	return w, nil
}

func (w *watcher) close() {
	_ = w.fs.Close() // nothing was written
	w.pump.Wait()
}

// run takes events until fsnotify closes. It never waits, because fsnotify can hold the lock that
// Add needs while it hands over an error.
func (w *watcher) run() {
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			w.event(e.Name)
		case _, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			w.all() // usually an overflow: events were lost
		}
	}
}

func (w *watcher) all() { w.dirty.mark(&w.dirty.folders, &w.dirty.cache, &w.dirty.netns) }

// event marks what an event at path means.
func (w *watcher) event(path string) {
	v := w.view.Load()
	f, ok := v.folders[filepath.Dir(path)]
	name := filepath.Base(path)
	switch {
	case v.folders[path] != nil || !ok || f.steps[name]:
		// A folder itself, or one that is not known here yet or any more.
		w.all()
		return
	case f.cache:
		w.dirty.markFile(name)
	}
	if f.netns {
		w.dirty.mark(&w.dirty.netns)
	}
}

// follow watches the cache's folder and those of namespaces as they are now, and marks as dirty
// what may have changed unseen before. The error says what cannot be watched.
func (w *watcher) follow(cache string, netns map[string]bool) error {
	v := see(cache, netns)
	w.view.Store(v) // first, so that the first event finds it
	alive := w.fs.WatchList()
	for path, was := range w.watched {
		if f := v.folders[path]; f == nil || f.id != was.id || !slices.Contains(alive, path) {
			delete(w.watched, path)
			_ = w.fs.Remove(path) // fails when the kernel was first
			w.mark(was)
		}
	}
	var errs []error
	for path, f := range v.folders {
		was, ok := w.watched[path]
		if !ok {
			if err := w.fs.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				errs = append(errs, watchError(path, err))
				continue
			}
			w.watched[path] = *f
		}
		if !ok || f.cache && !was.cache || f.netns && !was.netns {
			w.watched[path] = *f
			w.mark(*f)
		}
	}
	return errors.Join(errs...)
}

// mark marks that f, and what it leads to, may have changed unseen.
func (w *watcher) mark(f folder) {
	w.dirty.mark(&w.dirty.folders)
	if f.cache {
		w.dirty.mark(&w.dirty.cache)
	}
	if f.netns {
		w.dirty.mark(&w.dirty.netns)
	}
}

func watchError(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("fs.inotify.max_user_watches is too low: %w", err)
	}
	return fmt.Errorf("watch %s: %w", path, err)
}

// see returns the folders that are to be watched, as far as they exist.
func see(cache string, netns map[string]bool) *view {
	v := &view{folders: map[string]*folder{}, byID: map[folderID]*folder{}}
	if f := v.reach(cache); f != nil {
		f.cache = true
	}
	for path := range maps.Keys(netns) {
		if f := v.reach(path); f != nil {
			f.netns = true
		}
	}
	return v
}

// reach adds the folder at path and those above it. nil: there is none.
func (v *view) reach(path string) *folder {
	if path != "/" {
		above := v.reach(filepath.Dir(path))
		if above == nil {
			return nil
		}
		above.steps[filepath.Base(path)] = true
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return nil
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	id := folderID{dev: uint64(stat.Dev), ino: stat.Ino} // Dev is narrower on some architectures
	if f := v.byID[id]; f != nil {
		return f
	}
	f := &folder{id: id, steps: map[string]bool{}}
	v.folders[path], v.byID[id] = f, f
	return f
}
