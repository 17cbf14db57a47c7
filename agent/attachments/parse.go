package attachments

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// errForeign says that a file is not about a network interface of a pod.
var errForeign = errors.New("not an attachment of a pod")

// cacheKind is the format that libcni has written since 0.8.0; older files have no kind and say
// nothing of pods.
const cacheKind = "cniCacheV1"

// cached is a file of libcni's cache (cachedInfo in libcni/api.go).
type cached struct {
	Kind        string          `json:"kind"`
	ContainerID string          `json:"containerId"`
	IfName      string          `json:"ifName"`
	NetNS       string          `json:"netns"`
	Args        [][2]string     `json:"cniArgs"`
	Result      json.RawMessage `json:"result"`
}

// result is what plugins returned, in any version of the CNI specification: ip4 and ip6 until
// 0.2.0, ips since 0.3.0, mtu since 1.1.0.
type result struct {
	Interfaces []struct {
		Name    string `json:"name"`
		Sandbox string `json:"sandbox"` // empty: on the host
		MTU     int    `json:"mtu"`
	} `json:"interfaces"`
	IPs []struct {
		Address   string `json:"address"`
		Interface *int   `json:"interface"`
	} `json:"ips"`
	IP4, IP6 struct {
		IP string `json:"ip"`
	}
}

// parse returns what a file of libcni's cache claims, or errForeign.
func parse(data []byte) (Claim, error) {
	if len(data) == 0 {
		// Common after a node went down at the wrong time (containernetworking/cni issue 1055).
		return Claim{}, errors.New("the file is empty: it was not written to the end")
	}
	var f cached
	if err := json.Unmarshal(data, &f); err != nil {
		return Claim{}, fmt.Errorf("the file is not JSON as libcni writes it: %w", err)
	}
	// Containerd attaches lo as a network of its own.
	if f.Kind != cacheKind || f.IfName == "lo" {
		return Claim{}, errForeign
	}
	args := map[string]string{}
	for _, arg := range f.Args {
		args[arg[0]] = arg[1]
	}
	if args["K8S_POD_UID"] == "" {
		return Claim{}, errForeign
	}
	c := Claim{
		ContainerID: f.ContainerID, IfName: f.IfName, NetNS: f.NetNS,
		PodUID: types.UID(args["K8S_POD_UID"]), Namespace: args["K8S_POD_NAMESPACE"], Name: args["K8S_POD_NAME"],
	}
	if err := c.check(); err != nil {
		return Claim{}, err
	}
	// A result of a shape that is not known yet is no reason not to find the namespace.
	var r result
	if json.Unmarshal(f.Result, &r) == nil {
		c.IPs, c.MTU = r.addrs(), r.mtu(f.IfName)
	}
	return c, nil
}

// addrs returns the addresses that are not the host's.
func (r result) addrs() []netip.Addr {
	var addrs []netip.Addr
	add := func(cidr string) {
		if p, err := netip.ParsePrefix(cidr); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(r.Interfaces) || r.Interfaces[*i].Sandbox == "") {
			continue
		}
		add(ip.Address)
	}
	add(r.IP4.IP)
	add(r.IP6.IP)
	return addrs
}

// mtu returns that of the pod's interface of that name; 0: the result does not say.
func (r result) mtu(name string) int {
	for _, i := range r.Interfaces {
		if i.Name == name && i.Sandbox != "" {
			return max(i.MTU, 0)
		}
	}
	return 0
}
