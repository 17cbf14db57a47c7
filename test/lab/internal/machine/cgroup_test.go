//go:build linux

package machine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHierarchy(t *testing.T) {
	for line, want := range map[string]*Hierarchy{
		"33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct": {
			Dir: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"},
		},
		"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd": {
			Dir: "/sys/fs/cgroup/systemd", Controllers: []string{"xattr", "name=systemd"},
		},
		"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw": {Dir: "/sys/fs/cgroup/unified", V2: true},
		"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw":  {Dir: "/sys/fs/cgroup", V2: true},
		// A container's own, and what is no hierarchy.
		"99 31 0:38 / /run/x/sys/fs/cgroup rw - cgroup2 cgroup2 rw": nil,
		"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw":  nil,
		"22 27 0:21 / /proc rw,relatime - proc proc rw":             nil,
		"": nil,
	} {
		h, ok := parseHierarchy(line)
		var got *Hierarchy
		if ok {
			got = &h
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func TestCgroupOf(t *testing.T) {
	one, other := CgroupOf("/a/lab"), CgroupOf("/b/lab")
	if one == other || one != CgroupOf("/a/lab") || len(one) != len("/tailgate-lab/lab-123456") {
		t.Errorf("labs in two folders have the control groups %s and %s", one, other)
	}
}
