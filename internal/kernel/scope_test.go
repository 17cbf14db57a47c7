//go:build linux

package kernel_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

func TestScopeLimitsWhatIsOurs(t *testing.T) {
	ns := nstest.New(t)
	n := open(t, ns, nil)
	run(t, ns, `ip link set lo up
		ip link add tg1 group 77 type veth peer name p1; ip link set tg1 alias tailgate:one addrgenmode none up
		ip link add tg2 type veth peer name p2; ip link set tg2 addrgenmode none up
		ip link add eth0 address 02:00:00:00:00:0e mtu 1400 txqueuelen 900 type veth peer name p3
		ip link set eth0 alias theirs up; ip link property add dev eth0 altname tg3
		ip link set p1 up; ip link set p2 up; ip link set p3 up
		ip addr add 10.5.0.1/24 dev eth0; ip addr add 100.64.0.1/32 dev eth0
		ip addr add 10.5.1.1/32 dev tg1; ip addr add fe80::5/64 dev tg1 nodad; ip addr add 10.5.2.1/32 dev tg2
		ip route add 10.6.0.0/16 dev tg1 table 7718 metric 1 proto 77
		ip route add 10.7.0.0/16 dev tg2 table 7718 metric 1 proto 77
		ip route add unreachable 10.8.0.0/16 table 7718 metric 1 proto 77
		ip rule add pref 7710 lookup 7718 protocol 77; ip rule add pref 7720 lookup 7718 protocol 77`)
	tg1 := netstate.Link{Name: "tg1", Kind: netstate.Veth, Alias: "tailgate:one", MTU: 1500, TxQueueLen: 1000, Up: true}
	eth0 := netstate.Link{Name: "eth0", Kind: netstate.Existing, Alias: "theirs", MTU: 1400, TxQueueLen: 900, MAC: "02:00:00:00:00:0e", Up: true}
	route := func(dst, link string) netstate.Route {
		r := netstate.Route{Table: 7718, Dst: netip.MustParsePrefix(dst), Metric: 1, Type: netstate.Unicast, Link: link}
		if link == "" {
			r.Type = netstate.Unreachable
		}
		return r
	}
	for _, tt := range []struct {
		name  string
		scope netstate.Scope
		want  netstate.State
	}{
		{"nothing", netstate.Scope{}, netstate.State{}},
		{
			"a prefix takes only links of ours", netstate.Scope{Links: []string{"tg*"}},
			netstate.State{Links: []netstate.Link{tg1}, Addrs: []netstate.Addr{{Link: "tg1", Prefix: netip.MustParsePrefix("10.5.1.1/32")}}},
		},
		{
			"an exact name takes anyone's, an alternative name nobody's; addresses by prefix",
			netstate.Scope{Links: []string{"eth0", "tg3", "none"}, Addrs: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}},
			netstate.State{Links: []netstate.Link{eth0}, Addrs: []netstate.Addr{{Link: "eth0", Prefix: netip.MustParsePrefix("100.64.0.1/32")}}},
		},
		{
			"routes of a table, all", netstate.Scope{Tables: []int{7718, 9999}},
			netstate.State{Routes: []netstate.Route{route("10.6.0.0/16", "tg1"), route("10.7.0.0/16", "tg2"), route("10.8.0.0/16", "")}},
		},
		{
			"routes by a link", netstate.Scope{Tables: []int{7718}, RouteLinks: []string{"tg2"}},
			netstate.State{Routes: []netstate.Route{route("10.7.0.0/16", "tg2")}},
		},
		{
			"routes by links of ours", netstate.Scope{Tables: []int{7718}, RouteLinks: []string{"tg*"}},
			netstate.State{Routes: []netstate.Route{route("10.6.0.0/16", "tg1")}},
		},
		{
			"rules", netstate.Scope{RuleFirst: 7710, RuleLast: 7719},
			netstate.State{Rules: []netstate.Rule{{Family: netstate.V4, Priority: 7710, Table: 7718}}},
		},
		{
			"sysctls that are there", netstate.Scope{Sysctls: []string{"net/ipv4/ip_forward", "net/ipv4/conf/none/rp_filter", "net/ipv4/ip_local_port_range"}},
			netstate.State{Sysctls: []netstate.Sysctl{{Key: "net/ipv4/ip_forward", Value: "0"}, {Key: "net/ipv4/ip_local_port_range", Value: "32768 60999"}}},
		},
	} {
		got := observe(t, n, tt.scope)
		for i, l := range got.Links {
			if l.Name == "tg1" {
				got.Links[i].MAC = "" // the kernel drew it
			}
		}
		if diff := cmp.Diff(tt.want.String(), got.String()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
	if _, err := n.Observe(netstate.Scope{Sysctls: []string{"kernel/../kernel/hostname"}}); err == nil {
		t.Error("a sysctl that no network namespace has is read")
	}
}

func TestApplyErrors(t *testing.T) {
	b := newBed(t)
	run(t, b.member, `ip link set lo up; ip link add fd0 type veth peer name fd1; ip link set fd0 up; ip link set fd1 up
		ip route add 10.0.0.0/8 dev fd0 table 7717 metric 100`)
	run(t, b.gateway, "ip link add tg9 type veth peer name x9")
	veth := func(name, peer string) netstate.LinkAdd {
		return netstate.LinkAdd{Link: netstate.Link{Name: name, Kind: netstate.Veth, Alias: "tailgate:x", Peer: netstate.Peer{Name: peer}}}
	}
	for _, tt := range []struct {
		name string
		plan netstate.Plan
		want error
		text string
	}{
		{"own name taken", netstate.Plan{veth("fd0", "tg1")}, kernel.ErrLinkExists, "link add fd0"},
		{"own name taken, errno", netstate.Plan{veth("fd0", "tg1")}, unix.EEXIST, "fd0: the link name is taken"},
		{"peer's name taken", netstate.Plan{veth("ts0", "tg9")}, kernel.ErrLinkExists, "peer tg9"},
		{"no link", netstate.Plan{netstate.LinkSet{Name: "none", MTU: 1280}}, kernel.ErrNoLink, "link set none mtu 1280"},
		{"somebody else's link", netstate.Plan{netstate.LinkDel{Name: "fd0"}}, kernel.ErrNotOurs, "link del fd0"},
		{
			"somebody else's route", netstate.Plan{netstate.RouteAdd{Route: netstate.Route{
				Table: 7717, Dst: netip.MustParsePrefix("10.0.0.0/8"), Metric: 100, Type: netstate.Unreachable,
			}}}, kernel.ErrRouteExists, "route add unreachable 10.0.0.0/8",
		},
		{"a bad MAC", netstate.Plan{netstate.LinkSet{Name: "fd0", MAC: "zz"}}, nil, `"zz"`},
		{"a sysctl that is not the namespace's", netstate.Plan{netstate.SysctlSet{Sysctl: netstate.Sysctl{Key: "kernel/hostname", Value: "x"}}}, nil, "as in net/ipv4/ip_forward"},
		{"a sysctl that is not there", netstate.Plan{netstate.SysctlSet{Sysctl: netstate.Sysctl{Key: "net/ipv4/none", Value: "1"}}}, os.ErrNotExist, "none"},
		{"a rule of no family", netstate.Plan{netstate.RuleAdd{Rule: netstate.Rule{Priority: 1}}}, nil, "netstate.V4"},
	} {
		err := b.n.Apply(tt.plan)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want %v and %q", tt.name, err, tt.want, tt.text)
		}
	}
	if out := run(t, b.member, "ip route show table 7717; ip -o link show fd0"); !strings.Contains(out, "10.0.0.0/8 dev fd0") {
		t.Errorf("what was there is gone:\n%s", out)
	}
}

func TestWhatWorkedStays(t *testing.T) {
	b := newBed(t)
	run(t, b.gateway, "ip link add tg7 type veth peer name x9") // the peer's name is taken
	want := member(7)
	err := b.n.Apply(netstate.Diff(observe(t, b.n, memberScope), want))
	if !errors.Is(err, kernel.ErrLinkExists) || strings.Count(err.Error(), "\n") > 1 {
		t.Errorf("error %v: want the taken name, and not all that needs the link", err)
	}
	// Fail closed: the fallback routes and the rules are there.
	got := observe(t, b.n, memberScope)
	if len(got.Links) != 0 || len(got.Routes) != 4 || len(got.Rules) != len(want.Rules) {
		t.Errorf("got\n%v", got)
	}
	run(t, b.gateway, "ip link del tg7")
	reconcile(t, b.n, memberScope, want)
}

// TestHalfMade is about a maker that died between the two messages that make a veth.
func TestHalfMade(t *testing.T) {
	b := newBed(t)
	run(t, b.member, "ip link add ts0 group 77 type veth peer name tg7")
	got := observe(t, b.n, memberScope)
	if len(got.Links) != 1 || got.Links[0].Kind != netstate.Veth {
		t.Fatalf("not known as ours:\n%v", got)
	}
	reconcile(t, b.n, memberScope, netstate.State{})
	if out := run(t, b.member, "ip -o link"); strings.Contains(out, "ts0") {
		t.Errorf("still there:\n%s", out)
	}
}

const readOnlyEnv = "TAILGATE_TEST_READ_ONLY_PROC"

// TestReadOnlySysctl runs itself again in a mount namespace whose /proc/sys is
// read-only, as in a container.
func TestReadOnlySysctl(t *testing.T) {
	if os.Getenv(readOnlyEnv) == "" {
		if err := os.Mkdir("/host", 0o755); err == nil { // a place to mount at
			t.Cleanup(func() { _ = os.Remove("/host") })
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReadOnlySysctl$", "-test.v")
		cmd.Env = append(os.Environ(), readOnlyEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	n := open(t, nstest.New(t), nil)
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount("/proc/sys", "/proc/sys", "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	set := func(value string) error {
		return n.Apply(netstate.Plan{netstate.SysctlSet{Sysctl: netstate.Sysctl{Key: "net/ipv4/ip_forward", Value: value}}})
	}
	if err := set(" 0\n"); err != nil {
		t.Errorf("a sysctl that is right was written: %v", err)
	}
	err := set("1")
	if !errors.Is(err, kernel.ErrReadOnly) || !strings.Contains(err.Error(), `net/ipv4/ip_forward is "0" and should be "1"`) {
		t.Errorf("error %v", err)
	}
	// As the agent's pod has the node's: the files are those of the namespace of who opens them.
	again := filepath.Join(ident.HostSysctls, "net")
	err = errors.Join(unix.Mount("tmpfs", "/host", "tmpfs", 0, ""), os.MkdirAll(again, 0o755), unix.Mount("/proc/sys/net", again, "", unix.MS_BIND, ""),
		unix.Mount("", again, "", unix.MS_BIND|unix.MS_REMOUNT, ""))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward") // of this namespace
	if err != nil {
		t.Fatal(err)
	}
	if err := set("1"); err != nil {
		t.Errorf("with the node's sysctls at hand: %v", err)
	}
	have, err := n.Observe(netstate.Scope{Sysctls: []string{"net/ipv4/ip_forward"}})
	if err != nil || len(have.Sysctls) != 1 || have.Sysctls[0].Value != "1" {
		t.Errorf("ip_forward is %v (%v)", have.Sysctls, err)
	}
	if after, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || string(after) != string(before) {
		t.Errorf("ip_forward of another namespace went from %s to %s (%v)", before, after, err)
	}
}

func TestLinkStats(t *testing.T) {
	ns := nstest.New(t)
	n := open(t, ns, nil)
	run(t, ns, `ip link add tg1 type veth peer name p1; ip link set tg1 alias tailgate:one up; ip link set p1 up
		ip link add tg2 type veth peer name p2; ip link set lo up; ip addr add 10.5.0.1/24 dev tg1
		ip neigh add 10.5.0.2 lladdr 02:00:00:00:00:09 dev tg1 nud permanent`)
	stats := func() map[string]kernel.LinkStats {
		list, err := n.LinkStats([]string{"tg*", "lo", "none"})
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]kernel.LinkStats{}
		for _, s := range list {
			m[s.Name] = s
		}
		return m
	}
	before := stats()
	if len(before) != 2 || before["tg1"].Alias != "tailgate:one" {
		t.Fatalf("got %v, want lo and tg1", before)
	}
	const packets, payload = 50, 100
	err := ns.Do(func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", "10.5.0.2:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range packets {
			if _, err := c.Write(make([]byte, payload)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	after := stats()
	sent, bytes := after["tg1"].TxPackets-before["tg1"].TxPackets, after["tg1"].TxBytes-before["tg1"].TxBytes
	if sent < packets || bytes < packets*(payload+42) || after["tg1"].RxPackets > before["tg1"].RxPackets+packets/2 {
		t.Errorf("before %+v\nafter %+v", before["tg1"], after["tg1"])
	}
}

func TestConntrack(t *testing.T) {
	ns := nstest.New(t)
	n := open(t, ns, nil)
	run(t, ns, `ip link set lo up; nft add table inet x; nft 'add chain inet x c { type filter hook output priority 0; }'; nft add rule inet x c ct state new accept`)
	used, limit, err := n.Conntrack()
	if err != nil || used != 0 || limit <= 0 {
		t.Fatalf("Conntrack() = %d, %d, %v", used, limit, err)
	}
	err = ns.Do(func() error {
		for port := range 5 {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", "127.0.0.1:"+strconv.Itoa(20000+port))
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if used, _, err = n.Conntrack(); err != nil || used != 5 {
		t.Errorf("Conntrack() = %d, %v after five connections", used, err)
	}
}

func TestPeerEndBecomesGatewayLink(t *testing.T) {
	b := newBed(t)
	reconcile(t, b.n, memberScope, member(3))
	gw := open(t, b.gateway, nil)
	scope := netstate.Scope{Links: []string{ident.GatewayLinkPrefix + "*"}}
	reconcile(t, gw, scope, netstate.State{Links: []netstate.Link{
		{Name: "tg3", Kind: netstate.Veth, Alias: ident.AliasPrefix + "gateway", Up: true},
	}})
	if out := run(t, b.gateway, "ip -o link show tg3"); !strings.Contains(out, "LOWER_UP") {
		t.Errorf("the pair does not carry:\n%s", out)
	}
	// Pruned from the gateway's side, the member's end goes too.
	reconcile(t, gw, scope, netstate.State{})
	if got := observe(t, b.n, memberScope); len(got.Links)+len(got.Addrs)+len(got.Neighs) != 0 {
		t.Errorf("left behind:\n%v", got)
	}
}
