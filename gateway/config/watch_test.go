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
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
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

// volume is a directory that is written as kubelet writes ConfigMaps and Secrets
// (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go).
type volume struct {
	dir  string
	swap int
}

// put swaps in new content for one file.
func (v *volume) put(t *testing.T, name, content string) {
	t.Helper()
	old, _ := os.Readlink(filepath.Join(v.dir, "..data"))
	v.swap++
	data := fmt.Sprintf("..2026_01_02_03_04_05.%d", v.swap)
	must(t, os.MkdirAll(filepath.Join(v.dir, data), 0o755),
		os.WriteFile(filepath.Join(v.dir, data, name), []byte(content), 0o644),
		os.Symlink(data, filepath.Join(v.dir, "..data_tmp")),
		os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	if old == "" {
		must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)))
		return
	}
	must(t, os.RemoveAll(filepath.Join(v.dir, old)))
}

// step changes what a path leads to.
type step struct {
	name string
	do   func()
	want string
}

func TestWatchStyles(t *testing.T) {
	put := func(path, content string) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	move := func(from, to string) {
		t.Helper()
		must(t, os.Rename(from, to))
	}
	link := func(target, path string) { // as ln -sfn does it
		t.Helper()
		must(t, os.Symlink(target, path+".tmp"), os.Rename(path+".tmp", path))
	}
	mkdir := func(path string) {
		t.Helper()
		must(t, os.MkdirAll(path, 0o755))
	}
	// Each style lays out a fresh directory and returns the path to watch.
	for name, style := range map[string]func(dir string) (path string, steps []step){
		"kubelet": func(dir string) (string, []step) {
			v := &volume{dir: dir}
			v.put(t, "c", "0")
			return filepath.Join(dir, "c"), []step{
				{"swap", func() { v.put(t, "c", "1") }, "1"},
				{"swap again", func() { v.put(t, "c", "2") }, "2"},
				{"key removed", func() { must(t, os.Remove(filepath.Join(dir, "c"))) }, absent},
			}
		},
		"kubelet mounts later": func(dir string) (string, []step) {
			v := &volume{dir: filepath.Join(dir, "vol")}
			return filepath.Join(dir, "vol", "c"), []step{
				{"first", func() { mkdir(v.dir); v.put(t, "c", "1") }, "1"},
				{"swap", func() { v.put(t, "c", "2") }, "2"},
			}
		},
		"in place": func(dir string) (string, []step) {
			path := filepath.Join(dir, "c")
			put(path, "0")
			return path, []step{
				{"truncate and write", func() { put(path, "1") }, "1"},
				{"again", func() { put(path, "2") }, "2"},
				{"truncate", func() { must(t, os.Truncate(path, 0)) }, ""},
			}
		},
		"editor": func(dir string) (string, []step) {
			path := filepath.Join(dir, "c")
			put(path, "0")
			replace := func(content string) func() {
				return func() { put(path+".new", content); move(path+".new", path) }
			}
			return path, []step{
				{"rename over", replace("1"), "1"},
				{"again", replace("2"), "2"},
				{"write the new one", func() { put(path, "3") }, "3"},
				{"backup, then new", func() { move(path, path+"~"); put(path, "4") }, "4"},
			}
		},
		"deleted and made again": func(dir string) (string, []step) {
			path := filepath.Join(dir, "c")
			put(path, "0")
			return path, []step{
				{"delete", func() { must(t, os.Remove(path)) }, absent},
				{"make", func() { put(path, "1") }, "1"},
				{"both", func() { must(t, os.Remove(path)); put(path, "2") }, "2"},
			}
		},
		"directory missing": func(dir string) (string, []step) {
			deep := filepath.Join(dir, "a", "b", "c")
			return filepath.Join(deep, "c"), []step{
				{"make", func() { mkdir(deep); put(filepath.Join(deep, "c"), "1") }, "1"},
				{"write", func() { put(filepath.Join(deep, "c"), "2") }, "2"},
			}
		},
		"directory replaced": func(dir string) (string, []step) {
			sub := filepath.Join(dir, "sub")
			path := filepath.Join(sub, "c")
			mkdir(sub)
			put(path, "0")
			return path, []step{
				{"moved away", func() { move(sub, sub+".old") }, absent},
				{"made again", func() { mkdir(sub); put(path, "1") }, "1"},
				{"write", func() { put(path, "2") }, "2"},
				{"removed and made at once", func() { must(t, os.RemoveAll(sub)); mkdir(sub); put(path, "3") }, "3"},
				{"write", func() { put(path, "4") }, "4"},
				{"another moved in", func() {
					mkdir(sub + ".new")
					put(filepath.Join(sub+".new", "c"), "5")
					must(t, os.RemoveAll(sub))
					move(sub+".new", sub)
				}, "5"},
				{"rename over", func() { put(path+".new", "6"); move(path+".new", path) }, "6"},
			}
		},
		"parent replaced": func(dir string) (string, []step) {
			top := filepath.Join(dir, "top")
			path := filepath.Join(top, "sub", "c")
			for i, name := range []string{top, top + ".new"} {
				mkdir(filepath.Join(name, "sub"))
				put(filepath.Join(name, "sub", "c"), fmt.Sprint(i))
			}
			return path, []step{
				{"moved", func() { move(top, top+".old"); move(top+".new", top) }, "1"},
				{"write", func() { put(path, "2") }, "2"},
				{"swapped at once", func() {
					must(t, unix.Renameat2(unix.AT_FDCWD, top, unix.AT_FDCWD, top+".old", unix.RENAME_EXCHANGE))
				}, "0"},
				{"write", func() { put(path, "3") }, "3"},
			}
		},
		"symlink chain": func(dir string) (string, []step) {
			for _, name := range []string{"a", "b", "links"} {
				mkdir(filepath.Join(dir, name))
			}
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			put(filepath.Join(a, "one"), "0")
			put(filepath.Join(b, "one"), "1")
			put(filepath.Join(b, "two"), "2")
			links := filepath.Join(dir, "links")
			link("../a", filepath.Join(links, "where"))            // relative, through ..
			link("one", filepath.Join(b, "which"))                 // relative
			link("one", filepath.Join(a, "which"))                 // relative
			link(filepath.Join(links, "where", "which"), dir+"/c") // absolute
			return filepath.Join(dir, "c"), []step{
				{"directory link", func() { link(b, filepath.Join(links, "where")) }, "1"},
				{"file link", func() { link("two", filepath.Join(b, "which")) }, "2"},
				{"write at the end", func() { put(filepath.Join(b, "two"), "3") }, "3"},
				{"dangling", func() { link("three", filepath.Join(b, "which")) }, absent},
				{"not any more", func() { put(filepath.Join(b, "three"), "4") }, "4"},
				{"a file instead", func() { put(filepath.Join(dir, "new"), "5"); move(filepath.Join(dir, "new"), filepath.Join(dir, "c")) }, "5"},
			}
		},
		"written elsewhere": func(dir string) (string, []step) {
			mkdir(filepath.Join(dir, "here"))
			mkdir(filepath.Join(dir, "there"))
			path, other := filepath.Join(dir, "here", "c"), filepath.Join(dir, "there", "x")
			put(path, "0")
			must(t, os.Link(path, other))
			return path, []step{{"by a hard link", func() { put(other, "1") }, "1"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, steps := style(t.TempDir())
			w := watch(t, WatchOptions{Paths: []string{path}})
			for _, s := range steps {
				s.do()
				t.Log(s.name)
				await(t, w, path, s.want)
			}
		})
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

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/d/f", nil, 0o600),
		os.Symlink("loop", dir+"/loop"), os.Symlink("../d/./f", dir+"/d/l"))
	base := follow([]string{dir}).nodes
	for path, want := range map[string][]string{
		dir + "/missing/c": nil,
		dir + "/loop":      nil,
		dir + "/loop/x":    nil,
		dir + "/d/f/x":     {dir + "/d", dir + "/d/f"},
		dir + "/d/l":       {dir + "/d", dir + "/d/f"},
		dir + "/d":         {dir + "/d"},
	} {
		var got []string
		for p := range follow([]string{path}).nodes {
			if _, ok := base[p]; !ok {
				got = append(got, p)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s leads through (-want +got):\n%s", path, diff)
		}
	}
}
