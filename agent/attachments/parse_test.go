package attachments

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"
)

// withResult returns a file of a pod's attachment, whose result is as given.
func withResult(result string) string {
	return `{"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":"eth0","networkName":"pods","netns":"/var/run/netns/cni-1",
		"cniArgs":[["K8S_POD_NAMESPACE","payments"],["K8S_POD_NAME","a"],["K8S_POD_UID","u1"]],"result":` + result + `}`
}

func TestParseResult(t *testing.T) {
	// A result that nobody understands leaves the rest as it is.
	bare := Claim{ContainerID: "c1", IfName: "eth0", NetNS: "/var/run/netns/cni-1", PodUID: "u1", Namespace: "payments", Name: "a"}
	with := func(mtu int, ips ...string) Claim {
		c := bare
		c.MTU = mtu
		for _, ip := range ips {
			c.IPs = append(c.IPs, netip.MustParseAddr(ip))
		}
		return c
	}
	for _, tt := range []struct {
		result string
		want   Claim
	}{
		{`null`, bare},
		{`{}`, bare},
		{`[]`, bare},
		{`{"ips":"none"}`, bare},
		{`{"ips":[null,{"address":"nonsense"},{"address":"10.0.0.1"}]}`, bare},
		{`{"ips":[{"address":"10.0.0.1/8","interface":7},{"address":"10.0.0.2/8","interface":-1}]}`, bare},
		{`{"interfaces":[null],"ips":[{"address":"10.0.0.1/8","interface":0}]}`, bare},
		{`{"interfaces":[{"name":"eth0","sandbox":"x","mtu":-5}]}`, bare},
		{`{"interfaces":[{"name":"eth0","mtu":9000}]}`, bare},
		{`{"interfaces":[{"name":"eth0","sandbox":"x","mtu":1400}],"ips":[{"address":"10.0.0.1/8","interface":0},{"address":"fd00::1/64"}]}`, with(1400, "10.0.0.1", "fd00::1")},
		{`{"ip4":{"ip":"10.0.0.1/8"},"ip6":{"ip":"fd00::1/64"}}`, with(0, "10.0.0.1", "fd00::1")},
	} {
		got, err := parse([]byte(withResult(tt.result)))
		if err != nil {
			t.Errorf("%s: %v", tt.result, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.result, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := withResult("{}")
	for _, tt := range []struct{ old, now, want string }{
		{good, "", "is empty"},
		{good, good[:len(good)/2], "not JSON"},
		{good, good + "x", "not JSON"},
		{`"c1"`, `""`, "the container ID"},
		{`"c1"`, `"../c1"`, "the container ID"},
		{`"c1"`, `"` + strings.Repeat("x", 300) + `"`, "the container ID"},
		{`"eth0"`, `"eth 0"`, "the interface's name"},
		{`"u1"`, `"u\u00001"`, "the pod's UID"},
		{`"/var/run/netns/cni-1"`, `"cni-1"`, "not absolute"},
		{`,"netns":"/var/run/netns/cni-1"`, ``, "not absolute"},
		{`cniCacheV1`, `cniCacheV2`, errForeign.Error()},
		{`"eth0"`, `"lo"`, errForeign.Error()},
		{`"u1"`, `""`, errForeign.Error()},
		{`K8S_POD_UID`, `UID`, errForeign.Error()},
	} {
		_, err := parse([]byte(strings.Replace(good, tt.old, tt.now, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s for %.60s: error %v, want one with %q", tt.now, tt.old, err, tt.want)
		}
	}
}

// FuzzParse: parse never panics; what it accepts is a claim that a CNI ADD could make, and says the same
// when written out again; its path is seen below the root it is to be seen at.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(`{"cniVersion":"0.3.1","ips":[]}`))
	for _, result := range []string{
		`{}`, `null`, `{"ip4":{"ip":"10.0.0.1/8"}}`,
		`{"interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/x","mtu":1400}],"ips":[{"address":"10.0.0.1/8","interface":1},{"address":"::ffff:1.2.3.4/100"}]}`,
	} {
		f.Add([]byte(withResult(result)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data)
		if err != nil {
			if diff := cmp.Diff(Claim{}, c, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err.Error() == "" {
				t.Errorf("%s gives an error and a claim: %v\n%s", data, err, diff)
			}
			return
		}
		if err := c.check(); err != nil {
			t.Errorf("%s gives a claim that is none: %v", data, err)
		}
		again, err := parse(write(t, c))
		if diff := cmp.Diff(c, again, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
			t.Errorf("%s written out again: %v (-first +second)\n%s", data, err, diff)
		}
		if path, err := hostPath("/host", c.NetNS); err == nil && path != "/host" && !strings.HasPrefix(path, "/host/") {
			t.Errorf("%q is seen at %q", c.NetNS, path)
		}
	})
}

func write(t *testing.T, c Claim) []byte {
	t.Helper()
	type m = map[string]any
	ips := []m{}
	for _, ip := range c.IPs {
		ips = append(ips, m{"address": netip.PrefixFrom(ip, ip.BitLen()).String(), "interface": 0})
	}
	data, err := json.Marshal(cached{
		Kind: cacheKind, ContainerID: c.ContainerID, IfName: c.IfName, NetNS: c.NetNS,
		Args: [][2]string{{"K8S_POD_UID", string(c.PodUID)}, {"K8S_POD_NAMESPACE", c.Namespace}, {"K8S_POD_NAME", c.Name}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var file m
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	file["result"] = m{"interfaces": []m{{"name": c.IfName, "sandbox": "/x", "mtu": c.MTU}}, "ips": ips}
	if data, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHostPath(t *testing.T) {
	for _, tt := range []struct{ root, path, want string }{
		{"", "/var/run/netns/cni-1", "/run/netns/cni-1"},
		{"", "/run/netns/cni-1", "/run/netns/cni-1"},
		{"/", "/run/netns/cni-1", "/run/netns/cni-1"},
		{"/host", "/var/run/netns/cni-1", "/host/run/netns/cni-1"},
		{"/host/", "/run/netns/../netns/cni-1", "/host/run/netns/cni-1"},
		{"/host", "/../../etc", "/host/etc"},
		{"/host", "/var/lib/x", "/host/var/lib/x"},
		{"/host", "/proc/12/ns/net", ""},
		{"/host", "/run//..//proc/12/ns/net", ""},
	} {
		got, err := hostPath(tt.root, tt.path)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("hostPath(%q, %q) = %q, %v; want %q", tt.root, tt.path, got, err, tt.want)
		}
	}
}

func TestPrimary(t *testing.T) {
	named := func(name string, minute int64) record {
		return record{Claim: Claim{IfName: name, PodUID: types.UID(name)}, at: time.Unix(60*minute, 0)}
	}
	for _, tt := range []struct {
		records []record
		want    record
	}{
		{[]record{named("net1", 1), named("eth0", 2), named("a", 3)}, named("eth0", 2)},
		{[]record{named("net2", 1), named("net1", 2)}, named("net1", 2)},
		{[]record{named("eth0", 1), named("eth0", 3), named("eth0", 2)}, named("eth0", 3)},
	} {
		if got := primary(tt.records); got.IfName != tt.want.IfName || !got.at.Equal(tt.want.at) {
			t.Errorf("primary is %s of %v, want %s of %v", got.IfName, got.at, tt.want.IfName, tt.want.at)
		}
	}
}
