//go:build linux

package main

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"":                         "",
		"--only=add":               "",
		"--members=20 --streams=5": "",
		"--members=0":              "write at least 1 for each number",
		"--members=300":            "--members 300: a node has room for 260",
		"--members=5 --streams=6":  "--streams 6: write no more than there are members, 5",
		"--seconds=0":              "write seconds above 0 and up to 600",
		"--settle=0s":              "write a time above 0 for --settle",
		"--only=nothing":           `--only "nothing" matches no part; there are add, label, throughput, members`,
		"more":                     `"more" is no flag; see --help`,
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		if got := text(err); got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	s, err := parse([]string{"--only=label|members"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var picked []string
	for _, p := range selected(s.only) {
		picked = append(picked, p.name)
	}
	if d := cmp.Diff([]string{"label", "members"}, picked); d != "" {
		t.Error(d)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestWithoutPlugin(t *testing.T) {
	for _, tc := range []struct{ plugins, want, err string }{
		{`{"type":"ptp"},{"type":"portmap"},{"type":"tailgate-cni"}`, "ptp portmap", ""},
		{`{"type":"tailgate-cni"},{"type":"ptp"}`, "ptp", ""},
		{`{"type":"ptp"}`, "", "network pods has tailgate-cni 0 times among its plugins; it should be there once"},
	} {
		conf, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"pods","plugins":[` + tc.plugins + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		whole := types(conf)
		plain, err := withoutPlugin(conf)
		if text(err) != tc.err {
			t.Errorf("%s: %v, want %q", tc.plugins, err, tc.err)
		}
		if err == nil && types(plain) != tc.want {
			t.Errorf("%s: %q is left, want %q", tc.plugins, types(plain), tc.want)
		}
		if types(conf) != whole {
			t.Errorf("%s: the configuration itself was changed to %q", tc.plugins, types(conf))
		}
	}
}

func types(conf *libcni.NetworkConfigList) string {
	var all []string
	for _, p := range conf.Plugins {
		all = append(all, p.Network.Type)
	}
	return strings.Join(all, " ")
}

func TestChanged(t *testing.T) {
	before := map[string]int{"a": 2, "b": 2, "gateway/tg1": 7}
	for _, tc := range []struct {
		name  string
		after map[string]int
		want  int
	}{
		{"the same", map[string]int{"a": 2, "b": 2, "gateway/tg1": 7}, 0},
		{"made anew", map[string]int{"a": 3, "b": 2, "gateway/tg1": 8}, 2},
		{"gone", map[string]int{"a": 2, "gateway/tg1": 7}, 1},
		{"one more", map[string]int{"a": 2, "b": 2, "gateway/tg1": 7, "gateway/tg2": 9}, 1},
	} {
		if got := changed(before, tc.after); got != tc.want {
			t.Errorf("%s: %d changed, want %d", tc.name, got, tc.want)
		}
	}
}

func TestSpread(t *testing.T) {
	var hosts []*world.Host
	for _, name := range strings.Split("abcdefghij", "") {
		hosts = append(hosts, &world.Host{Name: name})
	}
	for n, want := range map[int]string{1: "a", 3: "adg", 10: "abcdefghij"} {
		got := ""
		for _, h := range spread(hosts, n) {
			got += h.Name
		}
		if got != want {
			t.Errorf("%d of ten are %q, want %q", n, got, want)
		}
	}
}

func TestCgroupsOf(t *testing.T) {
	const id = "abc123"
	v1 := "9:name=systemd:/lab/kubepods/pod1/abc123\n2:cpu,cpuacct:/lab/kubepods/pod1/abc123\n1:memory:/other\n0::/\n"
	if d := cmp.Diff([]string{"systemd/lab/kubepods/pod1/abc123", "cpu,cpuacct/lab/kubepods/pod1/abc123"}, cgroupsOf(v1, id, "unified")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/lab/kubepods/pod1/abc123"}, cgroupsOf("0::/lab/kubepods/pod1/abc123\n", id, "")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"unified/lab/abc123"}, cgroupsOf("1:cpu:/\n0::/lab/abc123\n", id, "unified")); d != "" {
		t.Error(d)
	}
	if got := cgroupsOf("no cgroup\n", id, ""); len(got) > 0 {
		t.Errorf("%q were found in nothing", got)
	}
}

// TestLinks makes and removes links as an agent does in a gateway's namespace.
func TestLinks(t *testing.T) {
	ns := nstest.New(t)
	add := func(name string, up bool) {
		t.Helper()
		err := ns.Do(func() error {
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "p" + name}
			if err := netlink.LinkAdd(link); err != nil || !up {
				return err
			}
			return netlink.LinkSetUp(link)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add("tg1", true)
	add("eth0", true)
	l, err := watchLinks(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	await := func(want int) {
		t.Helper()
		if _, err := l.await(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	await(1) // it was there before
	add("tg2", false)
	add("tg3", true)
	await(2)
	if n := l.count(); n != 2 {
		t.Errorf("%d links are up, want 2", n)
	}
	err = ns.Do(func() error { return netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "tg1"}}) })
	if err != nil {
		t.Fatal(err)
	}
	await(1)
	if names := slices.Collect(maps.Values(l.now)); !slices.Equal(names, []string{"tg3"}) {
		t.Errorf("there are %q, want tg3", names)
	}
}

// TestFindProcess finds a program by its name and its network namespace, and sees its end.
func TestFindProcess(t *testing.T) {
	here, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	name := "bench-sleeper"
	path := t.TempDir() + "/" + name
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), path, "-test.run=^$")
	c.Env = append(os.Environ(), sleeperEnv+"=1")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }()
	if pid, err := findProcess(name, here); err != nil || pid != c.Process.Pid {
		t.Errorf("the process is %d, %v; want %d", pid, err, c.Process.Pid)
	}
	if pid, err := findProcess(name, nstest.New(t)); err == nil {
		t.Errorf("process %d was found where none is", pid)
	}
	at, err := ended(t.Context(), c.Process.Pid, in.Close)
	if err != nil || at.Before(before) {
		t.Errorf("it ended at %v, %v; it was started at %v", at, err, before)
	}
}

const sleeperEnv = "TAILGATE_BENCH_SLEEPER"

// TestMain lets a copy of this program wait for the end of its input.
func TestMain(m *testing.M) {
	if os.Getenv(sleeperEnv) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}
