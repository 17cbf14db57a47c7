//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

// chainEnv makes a process of this program the one that calls the CNI chain on the node.
const chainEnv = "TAILGATE_BENCH_CHAIN"

// Where containerd has it.
const (
	confDir = "/etc/cni/net.d"
	binDir  = "/opt/cni/bin"
	// plugin is the type of our plugin in a configuration.
	plugin = "tailgate-cni"
)

// chainJob is what the process on the node is to do.
type chainJob struct {
	// Pods are called for in turn. The API server has them, and no runtime has made their sandbox.
	Pods []chainPod
	// Member is whether they are members.
	Member bool
	Pairs  int
}

type chainPod struct{ Namespace, Name, UID string }

// chainResult is what came of it, in milliseconds.
type chainResult struct {
	Error string
	Pairs stats.Pairs // with our plugin, and without it
}

// maybeChain never returns in a process that [bench.callChain] started; in any other it does nothing.
func maybeChain() {
	if os.Getenv(chainEnv) == "" {
		return
	}
	var j chainJob
	err := json.NewDecoder(os.Stdin).Decode(&j)
	var r chainResult
	if err == nil {
		r.Pairs, err = j.do(context.Background())
	}
	if err != nil {
		r.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// callChain has a job done in all namespaces of the node.
func (b *bench) callChain(ctx context.Context, j chainJob) (*stats.Pairs, error) {
	in, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("call the CNI chain: %w", err)
	}
	var out bytes.Buffer
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Dir, c.Env = "/", append(os.Environ(), chainEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, os.Stderr
	if err := b.node.Run(ctx, c); err != nil {
		return nil, fmt.Errorf("call the CNI chain: %w", err)
	}
	var r chainResult
	err = json.Unmarshal(out.Bytes(), &r)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("call the CNI chain: %w", err)
	}
	return &r.Pairs, nil
}

// chain is a network configuration, and who remembers results of it.
type chain struct {
	conf *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
}

// do calls the chain with our plugin and without it, for one new network namespace each time. Every second pair begins with
// the other one.
func (j chainJob) do(ctx context.Context) (p stats.Pairs, err error) {
	with, without, err := chains()
	if err != nil {
		return p, err
	}
	for n := range j.Pairs {
		pod := j.Pods[n%len(j.Pods)]
		took := map[*chain]float64{}
		order := []*chain{with, without}
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			wantLink := c == with && j.Member
			d, err := c.add(ctx, pod, fmt.Sprintf("bench-%d-%d-%t", os.Getpid(), n, c == with), wantLink)
			if err != nil {
				return p, fmt.Errorf("pair %d: %w", n+1, err)
			}
			took[c] = d.Seconds() * 1e3
		}
		p.Add(took[with], took[without])
	}
	return p, nil
}

// chains reads the configuration that containerd uses, and the same without our plugin. What is called without it is remembered
// in a folder that the agent does not look at, or it would join the pod as one whose start it missed.
func chains() (with, without *chain, err error) {
	files, err := libcni.ConfFiles(confDir, []string{".conf", ".conflist", ".json"})
	if err == nil && len(files) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read network configuration: %w", err)
	}
	slices.Sort(files)
	conf, err := libcni.ConfListFromFile(files[0])
	if err != nil {
		return nil, nil, fmt.Errorf("read network configuration: %w", err)
	}
	plain, err := withoutPlugin(conf)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", files[0], err)
	}
	cache := filepath.Join(os.TempDir(), "bench-cni")
	return &chain{conf, libcni.NewCNIConfig([]string{binDir}, nil)},
		&chain{plain, libcni.NewCNIConfigWithCacheDir([]string{binDir}, cache, nil)}, nil
}

// withoutPlugin returns the same configuration without our plugin, which must be in it once.
func withoutPlugin(conf *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	plain := *conf
	plain.Plugins = slices.DeleteFunc(slices.Clone(conf.Plugins), func(p *libcni.PluginConfig) bool { return p.Network.Type == plugin })
	if n := len(conf.Plugins) - len(plain.Plugins); n != 1 {
		return nil, fmt.Errorf("network %s has %s %d times among its plugins; it should be there once", conf.Name, plugin, n)
	}
	return &plain, nil
}

// add makes a network namespace and attaches it as containerd does for a pod's sandbox; it returns how long that took, and
// takes all of it down again.
func (c *chain) add(ctx context.Context, pod chainPod, id string, wantLink bool) (took time.Duration, err error) {
	ns, err := netns.NewNamed(id)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ns.Close(), netns.DeleteNamed(id)) }()
	if err := ns.Do(noDetection); err != nil {
		return 0, err
	}
	rt := &libcni.RuntimeConf{
		ContainerID: id, NetNS: "/var/run/netns/" + id, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", id}, {"K8S_POD_UID", pod.UID},
		},
	}
	start := time.Now()
	_, err = c.cni.AddNetworkList(ctx, c.conf, rt)
	took = time.Since(start)
	if err == nil {
		err = expectLink(ns, wantLink)
	}
	return took, errors.Join(err, c.cni.DelNetworkList(ctx, c.conf, rt))
}

// noDetection keeps the kernel from looking for duplicates of IPv6 addresses in the calling thread's namespace: the ptp and
// bridge plugins wait for that, a random time of up to two seconds (RFC 4862, 5.4), in which a few milliseconds would not be seen.
func noDetection() error {
	for _, conf := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/accept_dad", []byte("0"), 0o644); err != nil {
			return fmt.Errorf("switch off duplicate address detection: %w", err)
		}
	}
	return nil
}

// expectLink says when a namespace has the member's link and should not, or the other way about.
func expectLink(ns *netns.Handle, want bool) error {
	return ns.Do(func() error {
		_, err := netlink.LinkByName(ident.MemberLink)
		switch have := err == nil; {
		case have && !want:
			return fmt.Errorf("after ADD there is a link %s, and there should be none", ident.MemberLink)
		case !have && want:
			return fmt.Errorf("after ADD: %w", err)
		}
		return nil
	})
}
