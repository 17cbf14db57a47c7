//go:build linux

package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tailscale.com/net/tsaddr"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// setupTUN makes the namespace ready for a node: device up, the tailnet and what is to be
// steered routed into it, forwarding on, and masquerade.
func setupTUN(c Config) error {
	l, err := netlink.LinkByName(c.TUN)
	if err != nil {
		return fmt.Errorf("find TUN %s: %w", c.TUN, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set TUN %s up: %w", c.TUN, err)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := world.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	for _, p := range append([]netip.Prefix{tsaddr.CGNATRange(), tsaddr.TailscaleULARange()}, c.Steer...) {
		if p.Bits() == 0 {
			return fmt.Errorf("cannot steer %v into the TUN: WireGuard's own packets would follow", p)
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipnet(p), Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route %v into the TUN: %w", p, err)
		}
	}
	if c.NoMasquerade {
		return nil
	}
	return masquerade(c.TUN)
}

func addAddrs(tun string, addrs []netip.Addr) error {
	l, err := netlink.LinkByName(tun)
	if err != nil {
		return fmt.Errorf("find TUN %s: %w", tun, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(a, a.BitLen()))}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %v to %s: %w", a, tun, err)
		}
	}
	return nil
}

// masquerade gives what came from the tailnet, and leaves elsewhere, the address of the link
// that it leaves by.
func masquerade(tun string) error {
	nft, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := nft.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "tailnet-peer"})
	chain := nft.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	// The incoming link is not known in postrouting for what this host sends itself,
	// so that is left alone.
	nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(tun)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname(tun)},
		&expr.Masq{},
	}})
	clamp(nft, table, tun)
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("install masquerade: %w", err)
	}
	return nil
}

// clamp keeps TCP segments within the TUN, as a real router of Tailscale's does.
func clamp(nft *nftables.Conn, table *nftables.Table, tun string) {
	chain := nft.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityMangle,
	})
	for _, dir := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: dir, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(tun)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}, // flags
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x06}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}}, // SYN, not RST
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(mtu - 60)},
			&expr.Exthdr{Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt, SourceRegister: 1}, // MSS
		}})
	}
}

func ifname(s string) []byte { return append([]byte(s), make([]byte, 16-len(s))...) }

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
