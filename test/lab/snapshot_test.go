package lab_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// snapshot is what a lab could leave behind, a line a thing.
func snapshot(t *testing.T) []string {
	t.Helper()
	var all []string
	for what, find := range map[string]func() ([]string, error){
		"process": processes, "mount": mounts, "cgroup": cgroups, "sysctl": sysctls, "file": files,
	} {
		found, err := find()
		if err != nil {
			t.Fatalf("look at each %s: %v", what, err)
		}
		for _, f := range found {
			all = append(all, what+" "+f)
		}
	}
	slices.Sort(all)
	return all
}

// sameAgain waits until there is nothing that was not there before; the kernel takes a moment to forget.
func sameAgain(ctx context.Context, t *testing.T, before []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		diff := cmp.Diff(before, snapshot(t))
		if diff == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the lab left something behind (-before +after):\n%s", diff)
		case <-tick.C:
		}
	}
}

// processes are all in the tests' namespace. This one may have any number of threads.
func processes() ([]string, error) {
	return each("/proc/[0-9]*/stat", func(path string) (string, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", nil // it has ended
		}
		stat := string(b)
		name := stat[strings.Index(stat, "(") : strings.LastIndex(stat, ")")+1]
		return filepath.Base(filepath.Dir(path)) + name, nil
	})
}

// mounts are all in the tests' namespace, and so also network namespaces that have a name, since a name is a mount.
func mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	return strings.Split(strings.TrimSpace(string(b)), "\n"), err
}

// cgroups are those that a lab of these tests could have made.
func cgroups() ([]string, error) {
	var all []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // another lab's, which has just gone
		}
		if d.IsDir() && strings.Contains(path, "/tailgate-lab/t-") {
			all = append(all, path)
		}
		return nil
	})
	return all, err
}

// volatile are sysctls that change by themselves, or that reading changes.
var volatile = regexp.MustCompile(`^/proc/sys/(kernel/(random|ns_last_pid|perf_event_max_sample_rate|pty/nr|tainted|sched_domain)|` +
	`fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota|binfmt_misc|mount-max)|net/netfilter/nf_conntrack_count|net/ipv./neigh|` +
	`net/ipv./conf|vm/(compact_memory|drop_caches|stat_refresh)|debug|abi)`)

// sysctls are all that can be read. Other tests may add and remove links of the machine, which have some of their own.
func sysctls() ([]string, error) {
	var all []string
	err := filepath.WalkDir("/proc/sys", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || volatile.MatchString(path) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil // write only
		}
		all = append(all, fmt.Sprintf("%s = %q", path, b))
		return nil
	})
	return all, err
}

// files are what is in the folder of labs.
func files() ([]string, error) {
	var all []string
	err := filepath.WalkDir(os.Getenv(dirVar), func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	return all, err
}

func each(pattern string, describe func(path string) (string, error)) ([]string, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range paths {
		s, err := describe(p)
		if err != nil {
			return nil, err
		}
		if s != "" {
			all = append(all, s)
		}
	}
	return all, nil
}
