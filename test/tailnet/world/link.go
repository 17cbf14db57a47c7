//go:build linux

package world

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a link.
type End struct {
	Host *Host
	// Link is the interface's name there, at most 15 bytes.
	Link string
	// Addrs are given to it, each with its subnet's length.
	Addrs []netip.Prefix
}

// Link connects two hosts with a veth pair.
func (w *World) Link(a, b End) error {
	err := a.Host.Do(func() error {
		v := netlink.NewVeth(netlink.LinkAttrs{Name: a.Link, TxQLen: -1})
		v.PeerName, v.PeerNamespace = b.Link, netlink.NsFd(b.Host.ns.FD())
		return netlink.LinkAdd(v)
	})
	if err != nil {
		return fmt.Errorf("link %s (%s) to %s (%s): %w", a.Host.Name, a.Link, b.Host.Name, b.Link, err)
	}
	for _, e := range []End{a, b} {
		if err := e.Host.Do(func() error { return configure(e.Link, e.Addrs) }); err != nil {
			return fmt.Errorf("configure %s of %s: %w", e.Link, e.Host.Name, err)
		}
	}
	return nil
}

// AddRoute routes dst by way of via, in h.
func (h *Host) AddRoute(dst netip.Prefix, via netip.Addr) error {
	return h.addRoute(dst, via, netip.Addr{})
}

// addRoute is [Host.AddRoute] with the address that the host's own packets come from, if one is given.
func (h *Host) addRoute(dst netip.Prefix, via, src netip.Addr) error {
	err := h.Do(func() error {
		return netlink.RouteReplace(&netlink.Route{Dst: ipnet(dst), Gw: net.IP(via.AsSlice()), Src: net.IP(src.AsSlice())})
	})
	if err != nil {
		return fmt.Errorf("route %v by %v in %s: %w", dst, via, h.Name, err)
	}
	return nil
}

func (h *Host) defaultRoutes(vias ...netip.Addr) error {
	for _, via := range vias {
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := h.AddRoute(dst, via); err != nil {
			return err
		}
	}
	return nil
}

// setupHost prepares a new namespace. Addresses are not to wait for duplicate
// address detection, and paths may be asymmetric.
func setupHost() error {
	for _, conf := range []string{"all", "default"} {
		for key, value := range map[string]string{
			"ipv6/conf/" + conf + "/disable_ipv6": "0",
			"ipv6/conf/" + conf + "/accept_dad":   "0",
			"ipv6/conf/" + conf + "/accept_ra":    "0",
			"ipv4/conf/" + conf + "/rp_filter":    "0",
		} {
			if err := Sysctl(key, value); err != nil {
				return err
			}
		}
	}
	return configure("lo", nil)
}

func setupCore() error {
	// An address of its own: without, a bridge takes that of a port, and another when that port goes, which hosts
	// learn only when their neighbour entries have aged.
	own := net.HardwareAddr{0x02, 0x74, 0x77, 0x00, 0x00, 0x01}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, TxQLen: -1, HardwareAddr: own}}); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := Sysctl(key, "1"); err != nil {
			return err
		}
	}
	return configure(bridge, []netip.Prefix{
		netip.PrefixFrom(nth(UnderlayV4, 1), UnderlayV4.Bits()), netip.PrefixFrom(nth(UnderlayV6, 1), UnderlayV6.Bits()),
	})
}

// Sysctl sets /proc/sys/net/KEY of the calling thread's namespace; see [Host.Do].
func Sysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}

// configure gives a link its addresses and sets it up.
func configure(name string, addrs []netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: ipnet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(l, a); err != nil {
			return fmt.Errorf("add address %v: %w", p, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func enslave(name, master string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	m, err := netlink.LinkByName(master)
	if err != nil {
		return err
	}
	return netlink.LinkSetMaster(l, m)
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// nth returns the nth address of p, n below 256.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] += byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// linkName makes an interface name of at most 15 bytes; n of 0 is left out.
func linkName(base string, n int) string {
	if n > 0 {
		base += strconv.Itoa(n)
	}
	return base[:min(len(base), 15)]
}
