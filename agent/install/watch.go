package install

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher tells when something changes in folders that may come, go and be replaced.
type watcher struct {
	fs  *fsnotify.Watcher
	log *slog.Logger
	// watched are the folders by path, each with what tells it from another that takes its place.
	watched map[string]identity
	failed  bool // that a folder could not be watched has been logged
}

type identity struct{ dev, ino uint64 }

func newWatcher(log *slog.Logger) (*watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch folders: %w", err)
	}
	return &watcher{fs: w, log: log, watched: map[string]identity{}}, nil
}

func (w *watcher) close() { _ = w.fs.Close() }

// follow watches dirs, as far as they are there, and the folder above each, where it would come or be replaced.
func (w *watcher) follow(dirs ...string) {
	for _, dir := range dirs {
		w.add(dir)
		for parent := filepath.Dir(dir); !w.add(parent) && parent != filepath.Dir(parent); {
			parent = filepath.Dir(parent)
		}
	}
}

// add watches the folder that is now at dir, and says whether there is one.
func (w *watcher) add(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		w.forget(dir)
		return false
	}
	st := info.Sys().(*syscall.Stat_t)
	now := identity{dev: uint64(st.Dev), ino: st.Ino}
	if was, ok := w.watched[dir]; ok && was == now {
		return true
	}
	w.forget(dir)
	if err := w.fs.Add(dir); err != nil {
		if !w.failed {
			w.log.Warn("CNI plugin: a folder cannot be watched, and is looked at now and then instead", "folder", dir, "err", err)
		}
		w.failed = true
		return true
	}
	w.watched[dir] = now
	return true
}

func (w *watcher) forget(dir string) {
	if _, ok := w.watched[dir]; ok {
		_ = w.fs.Remove(dir) // which fails when the kernel was faster
		delete(w.watched, dir)
	}
}

// wait returns when something has changed and others have had the time to do so, too, or after most; false: ctx has ended.
func (w *watcher) wait(ctx context.Context, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for settling := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case err := <-w.fs.Errors:
			w.log.Warn("CNI plugin: changes of a folder may have been missed", "err", err)
		case e := <-w.fs.Events:
			if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
				w.forget(e.Name) // if it is a folder: one that takes its place may even get its inode
			}
		}
		if !settling {
			settling = true
			timer.Reset(min(settle, most))
		}
	}
}
