package attachments

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// settle is the time from the first event of a burst to looking: libcni truncates a file before it
// writes it. A pod that starts does not wait for it, CNI ADD being sooner.
const settle = 10 * time.Millisecond

// dirty says where to look again.
type dirty struct {
	wake chan struct{} // holds one

	mu      sync.Mutex
	folders bool            // other folders may be there to be watched
	cache   bool            // any file of the cache may be another
	files   map[string]bool // these files of the cache are
	netns   bool            // namespaces came or went
}

func newDirty() *dirty { return &dirty{wake: make(chan struct{}, 1), files: map[string]bool{}} }

// mark sets flags, which are d's own.
func (d *dirty) mark(flags ...*bool) {
	d.mu.Lock()
	for _, f := range flags {
		*f = true
	}
	d.mu.Unlock()
	d.poke()
}

func (d *dirty) markFile(name string) {
	d.mu.Lock()
	d.files[name] = true
	d.mu.Unlock()
	d.poke()
}

func (d *dirty) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// takeFolders returns whether folders are to be watched anew, once.
func (d *dirty) takeFolders() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.folders
	d.folders = false
	return was
}

// take returns the rest, once.
func (d *dirty) take() (cache bool, files []string, netns bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cache, files, netns = d.cache, slices.Collect(maps.Keys(d.files)), d.netns
	d.cache, d.netns = false, false
	clear(d.files)
	return cache, files, netns
}

// Run follows the cache and the namespaces until ctx is done, which is no error. Call it once.
func (s *Store) Run(ctx context.Context) error {
	w, err := watch(s.dirty)
	if err != nil {
		return err
	}
	defer w.close()
	s.dirty.mark(&s.dirty.folders, &s.dirty.cache)
	s.catchUp(w)
	close(s.synced)
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirty.wake:
		}
		timer.Reset(settle)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s.catchUp(w)
	}
}

// catchUp looks where something may have changed. It watches before it looks, so that nothing is
// missed, and looks again when what it found lies in folders that were not watched.
func (s *Store) catchUp(w *watcher) {
	for again := true; again; {
		// Folders that change as fast as they are looked at are left for the next time.
		for rounds := 0; rounds < 8 && s.dirty.takeFolders(); rounds++ {
			err := w.follow(s.opts.Dir, s.netnsFolders())
			s.change(func() { s.watchErr = s.tell("some changes will be missed", s.watchErr, err) })
		}
		cache, names, netns := s.dirty.take()
		var looks []look
		if cache {
			looks = s.readAll()
		} else {
			for _, name := range names {
				looks = append(looks, s.readFile(name))
			}
		}
		before := s.netnsFolders()
		s.change(func() { s.take(looks, netns) })
		if again = !maps.Equal(before, s.netnsFolders()); again {
			s.dirty.mark(&s.dirty.folders)
		}
	}
}

// netnsFolders returns the folders in which pods' namespaces are mounted: usually one.
func (s *Store) netnsFolders() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	folders := map[string]bool{}
	for _, b := range s.sandboxes {
		if b.path != "" {
			folders[filepath.Dir(b.path)] = true
		}
	}
	return folders
}
