package ident

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// RouteProtocol marks the routes and rules that tailgate made (rtm_protocol and
// FRA_PROTOCOL, rtnetlink(7)). Values above RTPROT_STATIC (4) are free for
// user space; 77 is in neither iproute2's rt_protos nor any routing suite's list.
const RouteProtocol = 77

// Routing tables. The kernel keeps 0 and 253 to 255; cloud CNIs number theirs by
// interface from 1 or from 100, Cilium uses 2004 and 2005, Tailscale 52.
const (
	// TableMember, in a member's netns, holds the tailnet prefixes and, for
	// exit-node members, the default routes. Nothing of ours is ever in a member's
	// main: a tailnet prefix there would win over the pod's default route even
	// for cluster addresses that it covers.
	TableMember = 7717
	// TableGateway, in a gateway's netns, routes what members send.
	TableGateway = 7718
	// TableMain is the kernel's main table (RT_TABLE_MAIN).
	TableMain = 254
)

// Rule priorities. Local is 0, main 32766; Cilium's rules stand at 9 to 111,
// AWS VPC CNI's at 512 to 1536, Tailscale's at 5210 to 5270. All of ours lie in
// [RuleFirst, RuleLast].
const (
	RuleFirst = 7700
	// RuleReply, in a member, keeps replies to connections that came in on the
	// pod's own interface on main.
	RuleReply = 7700
	// RuleDirect, in a member, keeps cluster, link-local and multicast
	// destinations on main.
	RuleDirect = 7701
	// RuleMember, in a member, sends the rest through TableMember.
	RuleMember = 7702
	// RuleAnswer, in a gateway, keeps what its kernel answers members on main.
	RuleAnswer = 7709
	// RuleGateway, in a gateway, sends what members sent through TableGateway.
	RuleGateway = 7710
	// RuleGatewayOwn, in a gateway, sends its own queries to nameservers on the tailnet
	// through TableGateway, and what its kernel answers the tailnet.
	RuleGatewayOwn = 7711
	RuleLast       = 7719
)

// Route metrics. Always explicit: for IPv6 the kernel turns 0 into 1024, and a
// value that reads back changed would never compare equal.
const (
	// MetricPreferred is that of routes that carry traffic.
	MetricPreferred = 100
	// MetricFallback is that of the unreachable routes behind them.
	MetricFallback = 4096
)

// Marks. Bits 16 to 23 are Tailscale's, 14 and 15 kube-proxy's, 8 to 11 Cilium's;
// Calico takes its own from the top half of 32 bits from bit 16 up. Marks do not
// survive the way from one netns to another, so ours meet those only where another
// program acts inside the same pod.
const (
	// MarkMember is on packets that came in from a member link, in a gateway.
	MarkMember = 0x0100_0000
	// MarkTunnel is on packets that came out of the tunnel, in a gateway.
	MarkTunnel = 0x0400_0000
	// MarkReply is on a connection that came in by the pod's own interface,
	// and on its replies, in a member.
	MarkReply = 0x0200_0000
)

// Where the parts meet on a node: folders and sockets that only root may open.
const (
	// GatewayFolders is where each group's gateway has a folder with its sockets, named as what is made for
	// the group (v1alpha1.GroupObjectName).
	GatewayFolders = "/run/tailgate/gateways"
	// SnapshotSocket is the name, in its folder, of the socket on which a gateway says of itself (package snapshot).
	SnapshotSocket = "snapshot.sock"
	// HostSysctls is where a container that sees /proc/sys read-only, as every one that is not privileged, may have its node's
	// /proc/sys/net, below net. The files there are those of the network namespace of the thread that opens
	// them, whatever was mounted from where.
	HostSysctls = "/host/proc/sys"
)

// NFTable is the name of our nftables table (family inet) in any netns.
const NFTable = "tailgate"

// NFTableAttach is that of the table which whoever attaches members keeps in the namespace that they are attached to, beside
// the gateway's own [NFTable]: each replaces its table as a whole.
const NFTableAttach = "tailgate_attach"

// Links.
const (
	// MemberLink is the member's end of the veth.
	MemberLink = "ts0"
	// GatewayLinkPrefix begins the name of every gateway end; the number that
	// follows is the member's slot, see [GatewayLink].
	GatewayLinkPrefix = "tg"
	// TUN is the gateway's tunnel device, named as Tailscale names its own so
	// that its documentation and its users' habits apply.
	TUN = "tailscale0"
	// AliasPrefix begins the alias (IFLA_IFALIAS) of every link we make.
	AliasPrefix = "tailgate:"
)

// MTU is that of the tunnel and of every member link, in bytes: Tailscale's
// default, the smallest that IPv6 allows (RFC 8200, section 5).
const MTU = 1280

// Address space of member links. Both families in every cluster, whatever its own.
var (
	// MemberV4 lies inside 169.254.0.0/16 because no cluster, VPC or tailnet may
	// route that; it keeps clear of cloud metadata (169.254.169.254), NodeLocal
	// DNS (169.254.20.10), Calico's 169.254.1.1 and EKS Pod Identity (169.254.170.23).
	MemberV4 = netip.MustParsePrefix("169.254.64.0/18")
	// MemberV6 is a ULA /64 (RFC 4193), its global ID drawn at random once.
	MemberV6 = netip.MustParsePrefix("fd2c:7d4a:91e6:7717::/64")
	// GatewayV4 and GatewayV6 are the gateway's addresses towards every member.
	GatewayV4 = netip.MustParseAddr("169.254.64.1")
	GatewayV6 = netip.MustParseAddr("fd2c:7d4a:91e6:7717::1")
)

// MaxSlot is the highest member slot: MemberV4 less its network, gateway and
// broadcast addresses. Slots start at 1.
const MaxSlot = 1<<14 - 3

// GatewayLink returns the name of the gateway end of the veth of the member in slot.
func GatewayLink(slot int) string { return GatewayLinkPrefix + strconv.Itoa(slot) }

// Slot returns the slot that a gateway link's name says, and whether name is one.
func Slot(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, GatewayLinkPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > MaxSlot || GatewayLink(n) != name {
		return 0, false
	}
	return n, true
}

// MemberAddrs returns the addresses of the member in slot. It panics when slot
// is not in [1, MaxSlot]: a caller that got there has lost count.
func MemberAddrs(slot int) (v4, v6 netip.Addr) {
	if slot < 1 || slot > MaxSlot {
		panic(fmt.Sprintf("ident: member slot %d is not in 1 to %d", slot, MaxSlot))
	}
	host := slot + 1 // .0 is the network, .1 the gateway
	a4, a6 := MemberV4.Addr().As4(), MemberV6.Addr().As16()
	a4[2] += byte(host >> 8)
	a4[3] = byte(host)
	a6[14], a6[15] = byte(host>>8), byte(host)
	return netip.AddrFrom4(a4), netip.AddrFrom16(a6)
}

// GatewayMAC is the hardware address of every gateway link. Member links are
// point to point, so it need not be unique; being known, neither end ever asks.
const GatewayMAC = "02:74:67:00:00:01"

// MemberMAC returns the hardware address of the member end in slot: locally
// administered, unicast.
func MemberMAC(slot int) string {
	return fmt.Sprintf("02:74:67:01:%02x:%02x", slot>>8, slot&0xff)
}

// MemberSlot returns the slot that a member end's hardware address says; 0: it is none of ours.
func MemberSlot(mac string) int {
	var hi, lo int
	if _, err := fmt.Sscanf(mac, "02:74:67:01:%02x:%02x", &hi, &lo); err != nil {
		return 0
	}
	slot := hi<<8 | lo
	if slot < 1 || slot > MaxSlot || MemberMAC(slot) != mac {
		return 0
	}
	return slot
}
