package lab

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// good is a machine that lacks nothing.
func good() facts {
	f := facts{
		namespaces: []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"},
		hs:         []machine.Hierarchy{{Dir: machine.CgroupDir, V2: true, Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"}}},
		bridgeNF:   true, overlay: true, memory: wantMemory, disk: wantDisk, watchers: wantWatchers,
	}
	for _, p := range wantPrograms {
		f.programs = append(f.programs, p.name)
	}
	return f
}

func TestLacks(t *testing.T) {
	o := Options{CNI: Bridge, Dir: "/labs"}
	for name, tt := range map[string]struct {
		change func(*facts)
		want   []string
	}{
		"nothing": {func(*facts) {}, nil},
		"root": {
			func(f *facts) { *f = facts{uid: 1000} },
			[]string{"the lab makes namespaces, mounts and control groups, which only root may: run it as root"},
		},
		"namespaces": {
			func(f *facts) { f.namespaces = []string{"ipc", "mnt", "net", "uts"} },
			[]string{"the kernel has no pid namespaces: use one that was built with them"},
		},
		"no control groups": {
			func(f *facts) { f.cgroupErr = errors.New("none") },
			[]string{"control groups cannot be found (none): mount them on /sys/fs/cgroup"},
		},
		"control groups of version 1": {
			func(f *facts) {
				f.hs = []machine.Hierarchy{{Controllers: []string{"cpu", "cpuacct"}}, {Controllers: []string{"blkio", "cpuset", "devices", "memory"}}, {V2: true}}
			},
			[]string{"control groups lack freezer, pids, which the kubelet needs: boot a kernel that has them, and mount them below /sys/fs/cgroup"},
		},
		"kernel": {
			func(f *facts) {
				f.tunErr, f.linkErr, f.nftErr = errors.New("no tun"), errors.New("no veth"), errors.New("no nft")
				f.bridgeNF, f.overlay = false, false
			},
			[]string{
				`/dev/net/tun cannot be opened (no tun), and gateways need it: load the module with "modprobe tun", or give this container the device`,
				`network links cannot be made (no veth): load the modules with "modprobe veth bridge", or give this container CAP_NET_ADMIN and CAP_SYS_ADMIN`,
				`nftables tables cannot be made (no nft): load the module with "modprobe nf_tables"`,
				`netfilter does not see what bridges forward, and Services need that with --cni=bridge: load the module with "modprobe br_netfilter", or use --cni=ptp`,
				`the kernel does not know overlayfs, which images need: load the module with "modprobe overlay"`,
			},
		},
		"folder": {
			func(f *facts) { f.onOverlay = true },
			[]string{"/labs is on overlayfs, on which images cannot be unpacked: choose a folder on another file system with --dir or TAILGATE_CACHE"},
		},
		"programs": {
			func(f *facts) { f.programs = []string{"mount", "umount"} },
			[]string{"the program nft is missing, which nodes run: install the package nftables"},
		},
		"size": {
			func(f *facts) { f.memory, f.disk, f.watchers = 1<<30, 1<<30, 16 },
			[]string{
				"only 1.0 GiB of memory can be had, and a lab takes up to 2.0 GiB: end something, or use a larger machine",
				"only 1.0 GiB are free below /labs, and a lab takes up to 3.0 GiB: make room, or choose another folder with --dir",
				`a user may have 16 instances of inotify, and a lab takes up to 64: run "sysctl -w fs.inotify.max_user_instances=512"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			tt.change(&f)
			if diff := cmp.Diff(tt.want, lacks(f, o)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPreflight wants this machine, on which the other tests start labs, to lack nothing.
func TestPreflight(t *testing.T) {
	if err := Preflight(Options{CNI: Bridge}); err != nil {
		t.Error(err)
	}
}
