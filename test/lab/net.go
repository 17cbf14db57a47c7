package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// bridgeLink joins nodes and hosts, in the control plane's namespace.
const bridgeLink = "br0"

// nodeLink is a node's interface.
const nodeLink = "eth0"

// setSysctls writes to /proc/sys/net of the calling thread's namespace.
func setSysctls(all map[string]string) error {
	for key, value := range all {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

// routerSysctls are for the control plane and nodes. They come before any link, which inherits them.
func routerSysctls() map[string]string {
	all := map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
	for _, conf := range []string{"all", "default"} {
		// No waiting for duplicate addresses, asymmetric paths allowed, nothing learned or told.
		for key, value := range map[string]string{
			"ipv6/conf/%s/accept_dad": "0", "ipv6/conf/%s/accept_ra": "0", "ipv6/conf/%s/disable_ipv6": "0",
			"ipv4/conf/%s/rp_filter": "0", "ipv4/conf/%s/send_redirects": "0",
		} {
			all[fmt.Sprintf(key, conf)] = value
		}
	}
	return all
}

// setupCore makes the bridge.
func (l *Lab) setupCore() error {
	err := l.core.Do(func() error {
		if err := setSysctls(routerSysctls()); err != nil {
			return err
		}
		// Frames from node to node are no business of netfilter. Without br_netfilter there is nothing to set.
		for _, key := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
			if err := setSysctls(map[string]string{key: "0"}); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		off := false
		br := &netlink.Bridge{
			LinkAttrs:         netlink.LinkAttrs{Name: bridgeLink, TxQLen: -1, HardwareAddr: hardware(l.Plan.ControlPlane)},
			MulticastSnooping: &off,
		}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		if err := errors.Join(configure("lo", nil), configure(bridgeLink, l.Plan.onNet(l.Plan.ControlPlane))); err != nil {
			return err
		}
		return l.podRoutes("")
	})
	if err != nil {
		return fmt.Errorf("set up the network of lab %s: %w", l.Options.Name, err)
	}
	return nil
}

// setupNode connects a node that has just started.
func (l *Lab) setupNode(ctx context.Context, n *NodePlan) error {
	ns, err := l.machineNetNS(ctx, n.Name)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = ns.Do(func() error {
		all := routerSysctls()
		if l.Options.CNI == Bridge {
			// Answers of a Service's pod on the same bridge must pass netfilter, too.
			all["bridge/bridge-nf-call-iptables"], all["bridge/bridge-nf-call-ip6tables"] = "1", "1"
		}
		return setSysctls(all)
	})
	if err != nil {
		return fmt.Errorf("set up the network of %s: %w", n.Name, err)
	}
	// What a crash left of the last one may not have gone yet.
	err = errors.Join(l.removePort(n.Name), l.addPort(n.Name, ns, nodeLink, n.Addrs))
	if err != nil {
		return fmt.Errorf("connect %s: %w", n.Name, err)
	}
	err = ns.Do(func() error {
		for _, via := range l.Plan.ControlPlane {
			if err := addRoute(defaultRoute(via), via); err != nil {
				return err
			}
		}
		return errors.Join(configure("lo", nil), l.podRoutes(n.Name))
	})
	if err != nil {
		return fmt.Errorf("set up the network of %s: %w", n.Name, err)
	}
	return nil
}

// podRoutes routes pods by their nodes, in the calling thread's namespace, which is that of the node
// named self, if any.
func (l *Lab) podRoutes(self string) error {
	for _, n := range l.Plan.Nodes {
		if n.Name == self {
			continue
		}
		for i, p := range n.PodNets {
			if err := addRoute(p, n.Addrs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hardware is the address of the interface that has these addresses, a locally administered one (IEEE 802,
// 8.2.2). It follows from them, since others remember it for a while: a node that was rebooted, a host that was
// attached again and the bridge, which without one of its own takes that of a port, would else be out of
// reach until they ask again.
func hardware(addrs []netip.Addr) net.HardwareAddr {
	b := addrs[0].As16()
	return net.HardwareAddr{0x02, 0x1a, b[12], b[13], b[14], b[15]}
}

// addPort makes a link between the bridge, where it is called port, and a namespace.
func (l *Lab) addPort(port string, ns *netns.Handle, link string, addrs []netip.Addr) error {
	err := l.core.Do(func() error {
		v := netlink.NewVeth(netlink.LinkAttrs{Name: port, TxQLen: -1})
		v.PeerName, v.PeerNamespace, v.PeerHardwareAddr = link, netlink.NsFd(ns.FD()), hardware(addrs)
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("add link %s: %w", port, err)
		}
		br, err := netlink.LinkByName(bridgeLink)
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		if err := netlink.LinkSetMaster(v, br); err != nil {
			return fmt.Errorf("attach %s to the bridge: %w", port, err)
		}
		return configure(port, nil)
	})
	if err != nil {
		return err
	}
	return ns.Do(func() error { return configure(link, l.Plan.onNet(addrs)) })
}

// removePort removes a link of the bridge. One that is not there is removed.
func (l *Lab) removePort(port string) error {
	return l.core.Do(func() error {
		link, err := netlink.LinkByName(port)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link %s: %w", port, err)
		}
		return nil
	})
}

// configure gives a link its addresses and sets it up, in the calling thread's namespace.
func configure(name string, addrs []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: ipnet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return fmt.Errorf("add address %v to %s: %w", p, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// addRoute adds a route in the calling thread's namespace.
func addRoute(dst netip.Prefix, via netip.Addr) error {
	if err := netlink.RouteReplace(&netlink.Route{Dst: ipnet(dst), Gw: net.IP(via.AsSlice())}); err != nil {
		return fmt.Errorf("route %v by %v: %w", dst, via, err)
	}
	return nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
