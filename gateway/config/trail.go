package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// fileID tells whether two paths lead to the same file or directory.
type fileID struct{ dev, ino uint64 }

// trails is what decides where some paths lead: the directories in which they are
// looked up, name by name and symlink by symlink, and the files at their ends.
type trails struct {
	// nodes are those directories and files by real path. Each inode is there once
	// only: inotify has one watch for it, whatever the number of paths.
	nodes map[string]node
	// names are those that are looked up. Events of others do not matter.
	names map[string]bool
	ids   map[fileID]bool
}

type node struct {
	id fileID
	// last says that a path ends in this directory, or ends here for now because
	// what comes next is missing. Only the others may be left unwatched.
	last bool
}

// maxHops bounds the symlinks of a path, as the kernel does (path_resolution(7)).
const maxHops = 40

// follow returns the trails of paths, which are absolute.
func follow(paths []string) *trails {
	t := &trails{nodes: map[string]node{}, names: map[string]bool{}, ids: map[fileID]bool{}}
	for _, path := range paths {
		t.follow(path)
	}
	return t
}

// follow walks one path as the kernel would, as far as it leads.
func (t *trails) follow(path string) {
	dir, hops := "/", 0
	rest := strings.Split(path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // dir is real: no symlinks in it
			continue
		}
		t.names[name] = true
		t.add(dir, false)
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil: // missing for now
			t.add(dir, true)
			return
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if hops++; err != nil || hops > maxHops {
				t.add(dir, true)
				return
			}
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		case info.IsDir():
			dir = next
		default:
			// The file itself as well: a write through another mount or hard link
			// shows at the file, not in this directory.
			t.add(dir, true)
			t.add(next, false)
			return
		}
	}
	t.add(dir, true)
}

// add notes the directory or file at path; last sticks.
func (t *trails) add(path string, last bool) {
	if n, ok := t.nodes[path]; ok {
		n.last = n.last || last
		t.nodes[path] = n
		return
	}
	info, err := os.Lstat(path)
	if err != nil {
		return // gone since; its parent says so
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	id := fileID{dev: stat.Dev, ino: stat.Ino}
	if t.ids[id] {
		return
	}
	t.ids[id] = true
	t.nodes[path] = node{id: id, last: last}
}
