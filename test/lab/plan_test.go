package lab

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files in testdata that tests compare with")

// golden compares text with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is another (-want +got); go test -run %s -update writes it:\n%s", file, t.Name(), diff)
	}
}

func plan(t *testing.T, number, nodes int, f Family) Plan {
	t.Helper()
	p, err := NewPlan(number, nodes, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlan(t *testing.T) {
	for _, f := range []Family{V4, V6, Dual} {
		b, err := json.MarshalIndent(plan(t, 3, 2, f), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "plan_"+string(f)+".json", append(b, '\n'))
	}
	if _, err := NewPlan(maxLabs, 1, Dual); err == nil {
		t.Error("there is a plan too many")
	}
}

// TestPlansApart wants labs not to overlap, nor with what users have in a tailnet.
func TestPlansApart(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd7a:115c:a1e0::/48"), netip.MustParsePrefix("169.254.0.0/16")}
	for number := range maxLabs {
		p := plan(t, number, maxNodes, Dual)
		for _, nets := range [][]netip.Prefix{p.NodeNets, p.PodNets, p.ServiceNets} {
			for _, n := range nets {
				if n != n.Masked() {
					t.Errorf("%v has bits set behind its length", n)
				}
				for _, o := range all {
					if n.Overlaps(o) {
						t.Errorf("plan %d: %v overlaps %v", number, n, o)
					}
				}
				all = append(all, n)
			}
		}
		var pods []netip.Prefix
		for _, node := range p.Nodes {
			for i, n := range node.PodNets {
				if !p.PodNets[i].Contains(n.Addr()) || !p.NodeNets[i].Contains(node.Addrs[i]) {
					t.Errorf("%s: %v and %v are not in the lab's networks", node.Name, n, node.Addrs[i])
				}
				for _, o := range pods {
					if n.Overlaps(o) {
						t.Errorf("%s: %v overlaps %v", node.Name, n, o)
					}
				}
				pods = append(pods, n)
			}
		}
	}
}

func TestHosts(t *testing.T) {
	p := plan(t, 0, 1, Dual)
	taken := make(map[netip.Addr]bool)
	n := 0
	for ; ; n++ {
		addrs, ok := p.Host(n)
		if !ok {
			break
		}
		for i, a := range addrs {
			if taken[a] || !p.NodeNets[i].Contains(a) {
				t.Errorf("host %d has %v", n, a)
			}
			taken[a] = true
		}
	}
	if n < 100 {
		t.Errorf("there is room for %d hosts only", n)
	}
	got, _ := p.Host(7)
	want := []netip.Addr{netip.MustParseAddr("192.168.70.107"), netip.MustParseAddr("fd00:168:70::107")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		family Family
		cni    CNI
	}{{Dual, PTP}, {V6, Bridge}} {
		p := plan(t, 0, 2, tt.family)
		v := newValues(Options{CNI: tt.cni}, p, &p.Nodes[1], "/tailgate-lab/lab-123456/n2")
		var all []byte
		entries, err := configFS.ReadDir("config")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := render(e.Name(), v)
			if err != nil {
				t.Fatal(err)
			}
			all = append(append(all, "=== "+e.Name()+"\n"...), b...)
		}
		for _, args := range controlPlane(p) {
			all = append(all, "=== "+strings.Join(args, "\n    ")+"\n"...)
		}
		for _, s := range Services() {
			all = append(all, "=== "+strings.Join(s.args(&p.Nodes[1]), "\n    ")+"\n"...)
		}
		golden(t, "config_"+string(tt.family)+"_"+string(tt.cni)+".txt", all)
	}
}

func TestOptions(t *testing.T) {
	long := "/" + strings.Repeat("x", 100)
	for _, tt := range []struct {
		o    Options
		want string // "": it is fine
	}{
		{Options{}, ""},
		{Options{Name: "a-1", Nodes: 9, Family: V6, CNI: Bridge}, ""},
		{Options{Name: "Lab"}, `"Lab" cannot name a lab: use up to 20 lower-case letters, digits and dashes, a letter first`},
		{Options{Name: "../x"}, `"../x" cannot name a lab: use up to 20 lower-case letters, digits and dashes, a letter first`},
		{Options{Nodes: 10}, "a lab has 1 to 9 nodes, not 10"},
		{Options{Nodes: -1}, "a lab has 1 to 9 nodes, not -1"},
		{Options{Family: "v5"}, `there is no family "v5": use v4, v6 or dual`},
		{Options{CNI: "calico"}, `there is no CNI "calico": use ptp or bridge`},
		{Options{Images: []string{"/none.tar"}}, "image archive: stat /none.tar: no such file or directory"},
		{Options{Dir: long}, "the folder " + long + " has a name too long for the sockets in it, by 11 bytes: choose another with --dir or TAILGATE_CACHE"},
	} {
		got := ""
		if _, err := tt.o.fill(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.o, diff)
		}
	}
}
