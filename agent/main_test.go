package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

func none(string) string { return "" }

func TestSettings(t *testing.T) {
	env := map[string]string{
		"NODE_NAME": "n1", "POD_NAMESPACE": "tailgate-test", "DAEMONSET_NAME": "agents", "TAILGATE_CLUSTER_CIDRS": "10.244.0.0/16, fd00::/48,",
		"TAILGATE_AGENT_JOIN_WAIT": "1s", "TAILGATE_AGENT_CNI_MODE": "disabled",
	}
	s, err := parse([]string{"--cni-mode=binary", "--resolvers=10.96.0.10"}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	o := s.options
	got := []any{o.Node, o.Namespace, o.DaemonSet, o.ClusterCIDRs, o.JoinWait, o.Install.Mode, o.Install.Socket, o.Install.Timeout, o.Resolvers, o.GatewayLinger}
	want := []any{
		"n1", "tailgate-test", "agents", []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/48")}, time.Second,
		install.Binary, cnirpc.Socket, 5 * time.Second, []netip.Addr{netip.MustParseAddr("10.96.0.10")}, time.Minute,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSettingsRefused(t *testing.T) {
	for flags, want := range map[string]string{
		"--node-name=":                "the node's name is not given; set --node-name or NODE_NAME",
		"--cluster-cidrs=10.0.0.1":    `--cluster-cidrs: netip.ParsePrefix("10.0.0.1"): no '/'; write values such as 10.244.0.0/16,10.96.0.0/12`,
		"--resolvers=kube-dns":        "--resolvers: ParseAddr(\"kube-dns\")",
		"--cni-mode=multus":           `CNI mode "multus" is not known; write chained, binary or disabled`,
		"--cni-timeout=2m":            "--cni-timeout 2m0s is not between 0 and 1m; write one such as 5s",
		"--join-wait=30s":             "--join-wait 30s is not between 0 and 30s; write one such as 3s",
		"--gateway-linger=-1s":        "--gateway-linger -1s is no time to wait",
		"--no-such-flag":              "--help lists the flags",
		"--cni-mode=x --resolvers=10": "CNI mode",
	} {
		_, err := parse(append([]string{"--node-name=n1"}, strings.Fields(flags)...), none)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flags, err, want)
		}
	}
}

func TestResolvers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string]string{
		"search x\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n": "[10.96.0.10 fd00:10:96::a]",
		"nameserver 169.254.20.10":                                    "[169.254.20.10]",
		"# nameserver 1.1.1.1\nnameserver\nnameserver me\n":           "names no resolver",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := resolvers(file)
		got := fmt.Sprint(all, err)
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if _, err := resolvers(file + ".absent"); err == nil {
		t.Error("a file that is not there has resolvers")
	}
}
