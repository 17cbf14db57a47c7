package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// What a lab takes: measured with two nodes, and room for pods.
const (
	wantMemory   = 2 << 30
	wantDisk     = 3 << 30
	wantWatchers = 64 // a lab of two nodes has 25 instances of inotify
)

// facts are what [Preflight] looks at.
type facts struct {
	uid        int
	namespaces []string // in /proc/self/ns
	hs         []machine.Hierarchy
	cgroupErr  error
	tunErr     error // of opening /dev/net/tun
	linkErr    error // of making a bridge and a veth pair
	nftErr     error // of making an nftables table
	bridgeNF   bool  // whether netfilter sees what a bridge forwards
	overlay    bool  // whether the kernel knows overlayfs
	onOverlay  bool  // whether the lab's folder is on one
	programs   []string
	memory     uint64 // that can be had, in bytes
	disk       uint64 // that is free where the lab's folder is, in bytes
	watchers   int    // instances of inotify that a user may have
}

// wantPrograms are those of the host that the nodes run: the kubelet mounts, kube-proxy and the
// portmap plugin write their rules.
var wantPrograms = []struct{ name, pkg string }{{"mount", "mount or util-linux"}, {"umount", "mount or util-linux"}, {"nft", "nftables"}}

// Preflight says what this machine lacks, a sentence a thing, or returns nil.
func Preflight(o Options) error {
	o, err := o.fill()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range lacks(look(o.Dir), o) {
		errs = append(errs, errors.New(s))
	}
	return errors.Join(errs...)
}

// lacks turns facts into sentences.
func lacks(f facts, o Options) []string {
	if f.uid != 0 {
		return []string{"the lab makes namespaces, mounts and control groups, which only root may: run it as root"}
	}
	var all []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	for _, ns := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		add(!slices.Contains(f.namespaces, ns), "the kernel has no %s namespaces: use one that was built with them", ns)
	}
	all = append(all, lacksCgroups(f)...)
	add(f.tunErr != nil, "/dev/net/tun cannot be opened (%v), and gateways need it: load the module with \"modprobe tun\", or give this container the device", f.tunErr)
	add(f.linkErr != nil, "network links cannot be made (%v): load the modules with \"modprobe veth bridge\", or give this container CAP_NET_ADMIN and CAP_SYS_ADMIN", f.linkErr)
	add(f.nftErr != nil, "nftables tables cannot be made (%v): load the module with \"modprobe nf_tables\"", f.nftErr)
	add(o.CNI == Bridge && !f.bridgeNF, "netfilter does not see what bridges forward, and Services need that with --cni=bridge: load the module with \"modprobe br_netfilter\", or use --cni=ptp")
	add(!f.overlay, "the kernel does not know overlayfs, which images need: load the module with \"modprobe overlay\"")
	add(f.onOverlay, "%s is on overlayfs, on which images cannot be unpacked: choose a folder on another file system with --dir or %s", o.Dir, CacheVar)
	for _, p := range wantPrograms {
		add(!slices.Contains(f.programs, p.name), "the program %s is missing, which nodes run: install the package %s", p.name, p.pkg)
	}
	add(f.memory < wantMemory, "only %s of memory can be had, and a lab takes up to %s: end something, or use a larger machine", size(f.memory), size(wantMemory))
	add(f.disk < wantDisk, "only %s are free below %s, and a lab takes up to %s: make room, or choose another folder with --dir", size(f.disk), o.Dir, size(wantDisk))
	add(f.watchers < wantWatchers, "a user may have %d instances of inotify, and a lab takes up to %d: run \"sysctl -w fs.inotify.max_user_instances=512\"", f.watchers, wantWatchers)
	return all
}

// Controllers without which the kubelet does not start.
var (
	wantV1 = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"}
	wantV2 = []string{"cpu", "cpuset", "io", "memory", "pids"}
)

func lacksCgroups(f facts) []string {
	if f.cgroupErr != nil {
		return []string{fmt.Sprintf("control groups cannot be found (%v): mount them on %s", f.cgroupErr, machine.CgroupDir)}
	}
	want := wantV1
	if machine.Unified(f.hs) {
		want = wantV2
	}
	var have, missing []string
	for _, h := range f.hs {
		have = append(have, h.Controllers...)
	}
	for _, c := range want {
		if !slices.Contains(have, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("control groups lack %s, which the kubelet needs: boot a kernel that has them, and mount them below %s", strings.Join(missing, ", "), machine.CgroupDir)}
}

func size(b uint64) string { return fmt.Sprintf("%.1f GiB", float64(b)/(1<<30)) }

// look gathers the facts. It tries things out in a namespace of its own.
func look(dir string) facts {
	f := facts{uid: os.Geteuid()}
	if f.uid != 0 {
		return f
	}
	entries, _ := os.ReadDir("/proc/self/ns")
	for _, e := range entries {
		f.namespaces = append(f.namespaces, e.Name())
	}
	f.hs, f.cgroupErr = machine.Hierarchies()
	f.tunErr = tryOpen("/dev/net/tun")
	f.linkErr, f.nftErr = tryNetwork()
	_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
	f.bridgeNF = err == nil
	known, _ := os.ReadFile("/proc/filesystems")
	f.overlay = strings.Contains(string(known), "\toverlay\n")
	for _, p := range wantPrograms {
		if _, err := exec.LookPath(p.name); err == nil {
			f.programs = append(f.programs, p.name)
		}
	}
	f.memory = memAvailable()
	f.disk, f.onOverlay = diskAt(dir)
	b, _ := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	f.watchers, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	return f
}

func tryOpen(path string) error {
	fd, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return fd.Close()
}

// tryNetwork makes what a lab makes.
func tryNetwork() (linkErr, nftErr error) {
	ns, err := netns.NewAnonymous()
	if err != nil {
		return err, nil
	}
	defer ns.Close()
	linkErr = ns.Do(func() error {
		v := netlink.NewVeth(netlink.LinkAttrs{Name: "a", TxQLen: -1})
		v.PeerName = "b"
		return errors.Join(netlink.LinkAdd(v), netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br", TxQLen: -1}}))
	})
	c, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		return linkErr, err
	}
	c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "lab"})
	return linkErr, c.Flush()
}

// memAvailable is MemAvailable of /proc/meminfo, in bytes.
func memAvailable() uint64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		var kb uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

// diskAt looks at the file system of a folder that may not be there yet.
func diskAt(dir string) (free uint64, overlay bool) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Bavail * uint64(st.Bsize), int64(st.Type) == unix.OVERLAYFS_SUPER_MAGIC
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return 0, false
		}
		dir = filepath.Dir(dir)
	}
}

// checkRuncBuild says what building runc takes and is not there.
func checkRuncBuild(ctx context.Context) error {
	if _, err := exec.LookPath("gcc"); err != nil {
		return errors.New("runc is built with a C compiler: install gcc")
	}
	if _, err := exec.LookPath("pkg-config"); err != nil {
		return errors.New("runc's build asks pkg-config for libraries: install pkg-config")
	}
	if err := exec.CommandContext(ctx, "pkg-config", "--exists", "libseccomp").Run(); err != nil {
		return errors.New("runc needs the library of seccomp, since pods use it: install libseccomp-dev (Debian, Ubuntu) or libseccomp-devel (Fedora)")
	}
	return nil
}
