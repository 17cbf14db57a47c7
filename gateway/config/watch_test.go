package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience bounds every wait; it is never used up by a test that passes.
const patience = 10 * time.Second

// must fails the test when one of errs is not nil.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// watch starts a watcher that ends with the test and tolerates no error.
func watch(t *testing.T, opts WatchOptions) *Watcher {
	t.Helper()
	if opts.OnError == nil {
		opts.OnError = func(err error) { t.Errorf("OnError: %v", err) }
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Watch(ctx, opts)
	must(t, err)
	t.Cleanup(func() {
		cancel()
		<-w.done
	})
	return w
}

// absent is what read returns for a file that is not there.
const absent = "(absent)"

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return absent
	}
	must(t, err)
	return string(b)
}

// await reads path at each wake-up, and only then, until it holds want.
func await(t *testing.T, w *Watcher, path, want string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case _, ok := <-w.C:
			if !ok {
				t.Fatal("the watcher has ended")
			}
			if read(t, path) == want {
				return
			}
		case <-deadline.C:
			t.Fatalf("no wake-up for %q; watched: %q", want, w.fs.WatchList())
		}
	}
}

func TestWatchPermission(t *testing.T) {
	path := write(t, "0")
	w := watch(t, WatchOptions{Paths: []string{path}})
	must(t, os.Chmod(path, 0o644))
	await(t, w, path, "0")
}

func TestWatchSetPaths(t *testing.T) {
	first, second := write(t, "0"), write(t, "0")
	w := watch(t, WatchOptions{Paths: []string{first}})
	must(t, w.SetPaths(first, second))
	for i, path := range []string{second, first} {
		want := fmt.Sprint(i + 1)
		must(t, os.WriteFile(path, []byte(want), 0o600))
		await(t, w, path, want)
	}
	must(t, w.SetPaths(second))
	if list := w.fs.WatchList(); slices.Contains(list, filepath.Dir(first)) || !slices.Contains(list, filepath.Dir(second)) {
		t.Errorf("watched after SetPaths: %q", list)
	}
	// As when the directory is removed and made again with the same inode number.
	must(t, w.fs.Remove(filepath.Dir(second)), w.SetPaths(second))
	if list := w.fs.WatchList(); !slices.Contains(list, filepath.Dir(second)) {
		t.Errorf("a watch that went is not made again: %q", list)
	}
	must(t, w.SetPaths())
	if list := w.fs.WatchList(); len(list) != 0 {
		t.Errorf("watched without paths: %q", list)
	}
}

// TestWatchOneInodeTwice: two paths to one file, for which inotify has one watch.
func TestWatchOneInodeTwice(t *testing.T) {
	a, b := write(t, "0"), filepath.Join(t.TempDir(), "other")
	must(t, os.Link(a, b))
	if nodes := follow([]string{a, b}).nodes; len(nodes) != len(follow([]string{a, filepath.Dir(b)}).nodes) {
		t.Errorf("both paths of one file are to be watched: %v", nodes)
	}
	w := watch(t, WatchOptions{Paths: []string{a, b}})
	for i, path := range []string{a, b} {
		want := fmt.Sprint(i + 1)
		must(t, os.WriteFile(path+".new", []byte(want), 0o600), os.Rename(path+".new", path))
		await(t, w, path, want)
	}
}

// TestWatchNoise counts bursts by the clock, which is read once for each.
func TestWatchNoise(t *testing.T) {
	var bursts atomic.Int32
	path := write(t, "0")
	stamp := time.Unix(7, 0)
	w := watch(t, WatchOptions{
		Paths:    []string{path},
		Debounce: 100 * time.Millisecond,
		Now:      func() time.Time { bursts.Add(1); return stamp },
	})
	for i := range 200 {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(path), fmt.Sprintf("noise-%d", i)), nil, 0o600))
	}
	if n := bursts.Load(); n != 0 {
		t.Errorf("%d bursts from files that do not matter", n)
	}
	start := time.Now()
	for i := range 200 {
		must(t, os.WriteFile(path, []byte(fmt.Sprint(i)), 0o600))
	}
	if at := <-w.C; !at.Equal(stamp) {
		t.Errorf("woken for %v, want the time of the first event", at)
	}
	// One for each debounce time at most, however slow this machine is.
	if n, most := bursts.Load(), 1+time.Since(start)/(100*time.Millisecond); time.Duration(n) > most {
		t.Errorf("%d bursts, want %d at most", n, most)
	}
}

func TestWatchOverflow(t *testing.T) {
	path := write(t, "0")
	w := watch(t, WatchOptions{Paths: []string{path}})
	w.fs.Errors <- fsnotify.ErrEventOverflow
	await(t, w, path, "0")
}

// TestWatchStorm: directories come and go faster than they can be watched. With
// the events taken by the goroutine that adds watches, this locks up.
func TestWatchStorm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	path := filepath.Join(dir, "b", "c")
	w := watch(t, WatchOptions{Paths: []string{path}, Debounce: time.Millisecond})
	for i := range 500 {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(fmt.Sprint(i)), 0o600),
			os.Rename(dir, dir+".old"), os.RemoveAll(dir+".old"))
	}
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("end"), 0o600))
	await(t, w, path, "end")
	must(t, os.WriteFile(path, []byte("more"), 0o600))
	await(t, w, path, "more")
}

// TestWatchRace: directories appear while the watcher looks for them. With only one
// look, those made between it and the watch stay unnoticed.
func TestWatchRace(t *testing.T) {
	top := t.TempDir()
	w := watch(t, WatchOptions{Debounce: time.Millisecond})
	for i := range 200 {
		path := filepath.Join(top, fmt.Sprint(i), "a", "b", "c")
		made := make(chan error, 1)
		go func() { made <- os.MkdirAll(filepath.Dir(path), 0o755) }()
		must(t, w.SetPaths(path), <-made, os.WriteFile(path, []byte("1"), 0o600))
		await(t, w, path, "1")
	}
}

func TestWatchErrors(t *testing.T) {
	closed, err := fsnotify.NewWatcher()
	must(t, err, closed.Close())
	w := &Watcher{fs: closed, dirty: make(chan struct{}, 1), watched: map[string]fileID{}, paths: []string{"/nowhere/c"}}
	w.names.Store(&map[string]bool{})
	if got, want := fmt.Sprint(w.sync()), "watch /: changes there will be missed: fsnotify: watcher already closed"; got != want {
		t.Errorf("sync() = %s, want %s", got, want)
	}
}

// TestWatchEnds: nothing is left, and every call afterwards returns.
func TestWatchEnds(t *testing.T) {
	before := inotifyFDs(t)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Watch(ctx, WatchOptions{Paths: []string{write(t, "0")}})
	must(t, err)
	if got := inotifyFDs(t); got != before+1 {
		t.Errorf("%d inotify instances, want %d", got, before+1)
	}
	cancel()
	for range w.C { // closed last, after both goroutines' work
	}
	if got := inotifyFDs(t); got != before {
		t.Errorf("%d inotify instances are left, want %d", got, before)
	}
	if err := w.SetPaths("/"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("SetPaths afterwards: %v", err)
	}
	if w, err := Watch(ctx, WatchOptions{Paths: []string{"/"}}); err == nil {
		for range w.C {
		}
	}
	if got := inotifyFDs(t); got != before {
		t.Errorf("%d inotify instances are left by a watch that was never to be, want %d", got, before)
	}
}

// inotifyFDs counts this process's inotify instances.
func inotifyFDs(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.Contains(target, "inotify") {
			n++
		}
	}
	return n
}
