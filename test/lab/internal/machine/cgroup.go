//go:build linux

package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CgroupDir is where the hierarchies of control groups are.
const CgroupDir = "/sys/fs/cgroup"

// Hierarchy is a mounted tree of control groups.
type Hierarchy struct {
	// Dir is where it is mounted.
	Dir string
	// V2 is whether it is the unified one (cgroup-v2 in the kernel's documentation).
	V2 bool
	// Controllers are those bound to it: "cpuset", "freezer"; "name=systemd" has none.
	Controllers []string
}

// Hierarchies returns those of this machine, from /proc/self/mountinfo.
func Hierarchies() ([]Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	defer f.Close()
	var found []Hierarchy
	for sc := bufio.NewScanner(f); sc.Scan(); {
		h, ok := parseHierarchy(sc.Text())
		if ok && !slices.ContainsFunc(found, func(o Hierarchy) bool { return o.Dir == h.Dir }) {
			found = append(found, h)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("find control groups: none are mounted on %s", CgroupDir)
	}
	for i, h := range found {
		if h.V2 {
			b, err := os.ReadFile(filepath.Join(h.Dir, "cgroup.controllers"))
			if err != nil {
				return nil, fmt.Errorf("find control groups: %w", err)
			}
			found[i].Controllers = strings.Fields(string(b))
		}
	}
	return found, nil
}

// parseHierarchy reads a line of mountinfo (proc_pid_mountinfo(5)).
func parseHierarchy(line string) (Hierarchy, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 5 || len(r) < 3 {
		return Hierarchy{}, false
	}
	h := Hierarchy{Dir: l[4], V2: r[0] == "cgroup2"}
	if r[0] != "cgroup" && !h.V2 || h.Dir != CgroupDir && filepath.Dir(h.Dir) != CgroupDir {
		return Hierarchy{}, false
	}
	if !h.V2 {
		h.Controllers = slices.DeleteFunc(strings.Split(r[2], ","), func(o string) bool { return o == "rw" || o == "ro" })
	}
	return h, true
}

// Unified is whether version 2 alone is in use.
func Unified(hs []Hierarchy) bool { return len(hs) == 1 && hs[0].V2 }

// leaf is the group for the processes of a machine: with version 2, a group that has children
// must not have processes ("no internal processes").
func leaf(h Hierarchy, path string) string {
	if h.V2 && len(h.Controllers) > 0 {
		return filepath.Join(path, "init")
	}
	return path
}

// joinCgroup makes the control group in every hierarchy and moves this process there.
func joinCgroup(path string) error {
	hs, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		if err := h.join(leaf(h, path)); err != nil {
			return fmt.Errorf("join control group %s in %s: %w", path, h.Dir, err)
		}
	}
	return nil
}

func (h Hierarchy) join(path string) error {
	dir := h.Dir
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if err := h.delegate(dir); err != nil {
			return err
		}
		parent := dir
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if h.V2 || !slices.Contains(h.Controllers, "cpuset") {
			continue
		}
		// A group of cpuset takes no process before it has processors and memory (cpusets(7)).
		for _, key := range []string{"cpuset.cpus", "cpuset.mems"} {
			b, err := os.ReadFile(filepath.Join(parent, key))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, key), b, 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644)
}

// delegate lets the children of a group of version 2 use its controllers.
func (h Hierarchy) delegate(dir string) error {
	if !h.V2 || len(h.Controllers) == 0 {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(b)) {
		// Some need what this machine does not give, as cpu with real-time processes
		// around; the kubelet says which it misses.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
	return nil
}

// RemoveCgroup removes the control group and all below it from every hierarchy, and its
// parent when nothing else is there. It waits for processes that are about to end.
func RemoveCgroup(ctx context.Context, path string) error {
	hs, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		top := filepath.Join(h.Dir, path)
		err := retry(ctx, func() error { return removeTree(top) })
		if err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
		if parent := filepath.Dir(top); parent != h.Dir {
			_ = unix.Rmdir(parent) // another lab may be there
		}
	}
	return nil
}

// removeTree removes groups from the leaves up; their files are not to be removed.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil // it went while we looked
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "rmdir", Path: d, Err: err}
		}
	}
	return nil
}

// Freeze stops every process in the control group and below it, until [Thaw].
func Freeze(ctx context.Context, path string) error { return setFrozen(ctx, path, true) }

// Thaw lets the processes of a control group and of all below it run. A group that is not there is thawed.
func Thaw(ctx context.Context, path string) error { return setFrozen(ctx, path, false) }

func setFrozen(ctx context.Context, path string, frozen bool) error {
	hs, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		var file, value, check, want string
		switch {
		case h.V2 && Unified(hs):
			file, value, check, want = "cgroup.freeze", "0", "cgroup.events", "frozen 0"
			if frozen {
				value, want = "1", "frozen 1"
			}
		case !h.V2 && slices.Contains(h.Controllers, "freezer"):
			file, value, check, want = "freezer.state", "THAWED", "freezer.state", "THAWED"
			if frozen {
				value, want = "FROZEN", "FROZEN"
			}
		default:
			continue
		}
		dirs := []string{filepath.Join(h.Dir, path)}
		if !frozen { // a group below may have been frozen by itself
			dirs = subdirs(dirs[0])
		}
		for _, dir := range dirs {
			if err := setState(ctx, dir, file, value, check, want); err != nil {
				return fmt.Errorf("set %s of control group %s to %s: %w", file, dir, value, err)
			}
		}
		return nil
	}
	return errors.New("this machine has no freezer for control groups")
}

// setState writes value to file and waits until check says want. What is not there needs nothing
// when thawed.
func setState(ctx context.Context, dir, file, value, check, want string) error {
	err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644)
	thaw := value == "0" || value == "THAWED"
	if thaw && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return retry(ctx, func() error {
		b, err := os.ReadFile(filepath.Join(dir, check))
		if thaw && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !strings.Contains(string(b), want) {
			err = fmt.Errorf("it is %q", strings.TrimSpace(string(b)))
		}
		return err
	})
}

func subdirs(top string) []string {
	dirs := []string{top}
	entries, err := os.ReadDir(top)
	if err != nil {
		return dirs
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, subdirs(filepath.Join(top, e.Name()))...)
		}
	}
	return dirs
}

// retry calls fn until it succeeds, and returns its last error when ctx ends.
func retry(ctx context.Context, fn func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
