package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

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
