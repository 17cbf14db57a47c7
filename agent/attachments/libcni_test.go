package attachments_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
)

// plugin plays a CNI plugin that returns a fixed result.
type plugin struct {
	version.PluginDecoder
	result string
}

func (*plugin) FindInPath(name string, _ []string) (string, error) { return name, nil }

func (p *plugin) ExecPlugin(_ context.Context, _ string, _ []byte, env []string) ([]byte, error) {
	if strings.Contains(strings.Join(env, " "), "CNI_COMMAND=ADD") {
		return []byte(p.result), nil
	}
	return nil, nil
}

// TestLibcni has the real libcni write and remove its files, in every version of the specification, with
// the arguments of containerd and those of CRI-O.
func TestLibcni(t *testing.T) {
	const (
		old = `{"cniVersion": "%s", "ip4": {"ip": "10.244.1.7/24", "gateway": "10.244.1.1"}, "ip6": {"ip": "fd00::7/64"}}`
		mid = `{"cniVersion": "%s", "interfaces": [{"name": "vethab12"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/var/run/netns/c1"}],
			"ips": [{"version": "4", "address": "10.244.1.7/24", "interface": 1}, {"version": "6", "address": "fd00::7/64"},
			{"version": "4", "address": "169.254.1.1/32", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}}`
		late = `{"cniVersion": "%s", "interfaces": [{"name": "vethab12", "mtu": 9000}, {"name": "eth0", "mtu": 1450, "sandbox": "/var/run/netns/c1"}],
			"ips": [{"address": "10.244.1.7/24", "interface": 1}, {"address": "fd00::7/64"}, {"address": "169.254.1.1/32", "interface": 0}]}`
	)
	containerd := [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "payments"}, {"K8S_POD_NAME", "a"}, {"K8S_POD_INFRA_CONTAINER_ID", "c1"}, {"K8S_POD_UID", "a-uid"},
	}
	crio := append([][2]string{{"K8S_POD_UID", ""}}, containerd...)
	for _, tt := range []struct {
		version, result string
		args            [][2]string
		mtu             int
	}{
		{"0.1.0", old, containerd, 0},
		{"0.2.0", old, crio, 0},
		{"0.3.0", mid, containerd, 0},
		{"0.3.1", mid, crio, 0},
		{"0.4.0", mid, containerd, 0},
		{"1.0.0", late, containerd, 1450},
		{"1.1.0", late, crio, 1450},
	} {
		t.Run(tt.version, func(t *testing.T) {
			n := newNode(t)
			ns := n.ns(t, "c1")
			n.run(t)
			list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion": %q, "name": "pods", "plugins": [{"type": "some"}]}`, tt.version))
			must(t, err)
			runtime := &libcni.RuntimeConf{ContainerID: "c1", NetNS: "/var/run/netns/c1", IfName: "eth0", Args: tt.args}
			cni := libcni.NewCNIConfigWithCacheDir([]string{"/none"}, n.cache, &plugin{result: fmt.Sprintf(tt.result, tt.version)})
			_, err = cni.AddNetworkList(context.Background(), list, runtime)
			must(t, err)

			want := n.attached(t, claim("a", "c1"), ns)
			want.IPs = []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00::7")}
			want.MTU = tt.mtu
			n.waitFor(t, want)
			must(t, cni.DelNetworkList(context.Background(), list, runtime))
			n.waitGone(t, "a-uid")
		})
	}
}
