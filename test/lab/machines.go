package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Programs of machines: whole folders are shown to them, since runc looks beside itself (a mount on a
// single file is not seen by the overlay that it makes of its folder), and binDir has links.
var (
	controlPrograms = map[Part][]string{Hyperkube: Components(), Tools: {"labd"}}
	nodePrograms    = map[Part][]string{
		Hyperkube: Components(),
		Runtime:   {"containerd", "containerd-shim-runc-v2", "ctr"},
		Runc:      {"runc"},
	}
	cniPlugins = []string{"bridge", "host-local", "loopback", "portmap", "ptp"}
)

// pathVar is PATH in machines. The kubelet runs mount, kube-proxy and portmap run nft.
const pathVar = "PATH=" + binDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// systemDirs hold the host's programs and libraries; those that exist are shown to machines.
var systemDirs = []string{"bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "nix", "gnu"}

// baseMounts are those that all machines have. own is the machine's folder, which holds its /etc and
// /var; both survive its end.
func baseMounts(bins *Binaries, programs map[Part][]string, dir, own string) ([]machine.Mount, error) {
	var ms []machine.Mount
	for _, d := range systemDirs {
		d = "/" + d
		info, err := os.Lstat(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case info.Mode().Type() == fs.ModeSymlink:
			to, err := os.Readlink(d)
			if err != nil {
				return nil, err
			}
			ms = append(ms, machine.Mount{Kind: machine.Symlink, Source: to, Target: d})
		case info.IsDir():
			ms = append(ms, machine.Mount{Kind: machine.ReadOnly, Source: d, Target: d})
		}
	}
	log := filepath.Join(dir, "log")
	ms = append(ms,
		machine.Mount{Kind: machine.Proc, Source: "proc", Target: "/proc"},
		machine.Mount{Kind: machine.Sysfs, Source: "sysfs", Target: "/sys"},
		machine.Mount{Kind: machine.Bind, Source: machine.CgroupDir, Target: machine.CgroupDir},
		machine.Mount{Kind: machine.BPF, Source: "bpf", Target: "/sys/fs/bpf"},
		machine.Mount{Kind: machine.Bind, Source: "/dev", Target: "/dev"},
		machine.Mount{Kind: machine.Tmpfs, Source: "tmpfs", Target: "/run"},
		machine.Mount{Kind: machine.Tmpfs, Source: "tmpfs", Target: "/tmp"},
		machine.Mount{Kind: machine.Tmpfs, Source: "tmpfs", Target: "/root"},
		machine.Mount{Kind: machine.Bind, Source: filepath.Join(own, "etc"), Target: "/etc"},
		machine.Mount{Kind: machine.Bind, Source: filepath.Join(own, "var"), Target: "/var"},
		machine.Mount{Kind: machine.Bind, Source: log, Target: log},
	)
	// So that the host's programs find their libraries, and themselves.
	for _, f := range []string{"/etc/ld.so.cache", "/etc/alternatives"} {
		if _, err := os.Stat(f); err == nil {
			ms = append(ms, machine.Mount{Kind: machine.ReadOnly, Source: f, Target: f})
		}
	}
	// In AllParts' order, so that the same lab always looks the same.
	ms = append(ms, machine.Mount{Kind: machine.Tmpfs, Source: "tmpfs", Target: binDir})
	for _, part := range AllParts() {
		names, ok := programs[part]
		if !ok {
			continue
		}
		at := filepath.Join(filepath.Dir(binDir), string(part))
		ms = append(ms, machine.Mount{Kind: machine.ReadOnly, Source: bins.Dir(part), Target: at})
		for _, name := range names {
			ms = append(ms, machine.Mount{Kind: machine.Symlink, Source: filepath.Join(at, name), Target: filepath.Join(binDir, name)})
		}
	}
	return ms, nil
}

// writeControlPlane writes the first machine, which runs the control plane, to dir.
func writeControlPlane(bins *Binaries, dir string) error {
	own := filepath.Join(dir, machine.First)
	if err := writeSystemFiles(own, machine.First, nil); err != nil {
		return err
	}
	ms, err := baseMounts(bins, controlPrograms, dir, own)
	if err != nil {
		return fmt.Errorf("plan the file system of the control plane: %w", err)
	}
	// It starts the nodes, whose file systems it builds from these.
	for _, d := range []string{dir, bins.Dir(Hyperkube), bins.Dir(Runtime), bins.Dir(Runc), bins.Dir(Tools)} {
		ms = append(ms, machine.Mount{Kind: machine.Bind, Source: d, Target: d})
	}
	return writeMachine(dir, machine.First, ms)
}

// fakes are sysctls that the kubelet insists on, though they are for the whole machine: it finds
// these instead. The last is how it knows one boot from another.
func fakes() map[string]string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxbytes": "25000000",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/random/boot_id":     fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]),
	}
}

// writeNode writes a node to dir, for its next boot. Its disk stays as it is.
func writeNode(bins *Binaries, o Options, plan Plan, n *NodePlan, dir string) error {
	own := filepath.Join(dir, n.Name)
	// Nobody answers there unless a test listens: see Network.
	resolver := plan.ControlPlane[:1]
	if err := writeSystemFiles(own, n.Name, []byte("nameserver "+resolver[0].String()+"\n")); err != nil {
		return err
	}
	if err := writeNodeConfig(o, plan, n, dir); err != nil {
		return err
	}
	ms, err := baseMounts(bins, nodePrograms, dir, own)
	if err != nil {
		return fmt.Errorf("plan the file system of %s: %w", n.Name, err)
	}
	ms = append(ms, machine.Mount{Kind: machine.Bind, Source: filepath.Join(own, "opt"), Target: "/opt"})
	for key, value := range fakes() {
		f := filepath.Join(own, "fake", strings.ReplaceAll(key, "/", "."))
		if err := writeFile(f, []byte(value+"\n")); err != nil {
			return fmt.Errorf("write sysctl for %s: %w", n.Name, err)
		}
		ms = append(ms, machine.Mount{Kind: machine.Bind, Source: f, Target: "/proc/sys/" + key})
	}
	return errors.Join(copyPlugins(bins, filepath.Join(own, "opt/cni/bin")), writeMachine(dir, n.Name, ms))
}

func nodeCgroup(dir, node string) string { return machine.CgroupOf(dir) + "/" + node }

func writeMachine(dir, name string, ms []machine.Mount) error {
	root := filepath.Join(dir, name, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("make root of %s: %w", name, err)
	}
	return machine.Spec{
		Hostname: name, Socket: machine.SocketFile(dir, name), Cgroup: nodeCgroup(dir, name), Root: root, Mounts: ms,
	}.Write(machine.SpecFile(dir, name))
}

// protocols are names that nft prints: kube-proxy reads back what it wrote, and does not know numbers.
const protocols = "ip\t0\tIP\nicmp\t1\tICMP\ntcp\t6\tTCP\nudp\t17\tUDP\nipv6\t41\tIPv6\nipv6-icmp\t58\tIPv6-ICMP\nsctp\t132\tSCTP\n"

// writeSystemFiles writes what programs expect in /etc and /var.
func writeSystemFiles(own, hostname string, resolv []byte) error {
	for path, content := range map[string]string{
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 " + hostname + "\n",
		"etc/resolv.conf":   string(resolv),
		"etc/hostname":      hostname + "\n",
		"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":         "root:x:0:\n",
		"etc/nsswitch.conf": "hosts: files dns\n",
		"etc/os-release":    "ID=tailgate-lab\nPRETTY_NAME=\"tailgate lab\"\n",
		"etc/protocols":     protocols,
	} {
		path = filepath.Join(own, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write /etc of %s: %w", hostname, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write /etc of %s: %w", hostname, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(own, "var/lib"), 0o755); err != nil {
		return fmt.Errorf("make /var of %s: %w", hostname, err)
	}
	if err := os.Symlink("/run", filepath.Join(own, "var/run")); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make /var/run of %s: %w", hostname, err)
	}
	id := filepath.Join(own, "etc/machine-id")
	if _, err := os.Stat(id); err == nil {
		return nil
	}
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return os.WriteFile(id, fmt.Appendf(nil, "%x\n", b), 0o644)
}

// writeNodeConfig writes the configuration of a node's services, but for the kubeconfigs. A chain of
// CNI plugins that is there already stays: others may have changed it.
func writeNodeConfig(o Options, plan Plan, n *NodePlan, dir string) error {
	v := newValues(o, plan, n, nodeCgroup(dir, n.Name))
	for file, as := range map[string]string{
		"kubelet.yaml":    "etc/kubernetes/kubelet.yaml",
		"kube-proxy.yaml": "etc/kubernetes/kube-proxy.yaml",
		"containerd.toml": "etc/containerd/config.toml",
		"lab.conflist":    "etc/cni/net.d/10-lab.conflist",
	} {
		path := filepath.Join(dir, n.Name, as)
		if _, err := os.Stat(path); err == nil && file == "lab.conflist" {
			continue
		}
		b, err := render(file, v)
		if err != nil {
			return err
		}
		if err := writeFile(path, b); err != nil {
			return fmt.Errorf("write configuration of %s: %w", n.Name, err)
		}
	}
	return nil
}

// copyPlugins puts the CNI plugins where others put theirs, too.
func copyPlugins(bins *Binaries, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("make folder of CNI plugins: %w", err)
	}
	for _, p := range cniPlugins {
		path := filepath.Join(to, p)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		b, err := os.ReadFile(bins.Path(Runtime, p))
		if err != nil {
			return fmt.Errorf("copy CNI plugin: %w", err)
		}
		if err := os.WriteFile(path, b, 0o755); err != nil {
			return fmt.Errorf("copy CNI plugin: %w", err)
		}
	}
	return nil
}
