//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

var families = []uint8{unix.AF_INET, unix.AF_INET6}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addrsOn returns the addresses on the links of index, those in scope; index 0 asks for
// the addresses on all links, so that many links cost one dump.
func (n *Namespace) addrsOn(index int32, names map[int32]string, scope []netip.Prefix) ([]netstate.Addr, error) {
	var addrs []netstate.Addr
	for _, family := range families {
		msgs, err := n.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, header(unix.IfAddrmsg{Family: family, Index: uint32(index)}))
		if errors.Is(err, unix.ENODEV) {
			return nil, nil // gone since we asked for it
		}
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for _, b := range msgs {
			m, err := parse[unix.IfAddrmsg](b)
			if err != nil {
				return nil, err
			}
			name, ok := names[int32(m.header.Index)]
			prefix, valid := addrPrefix(m)
			if ok && valid && inScope(prefix.Addr(), scope) {
				addrs = append(addrs, netstate.Addr{Link: name, Prefix: prefix})
			}
		}
	}
	return addrs, nil
}

// addrPrefix returns the address itself, which is IFA_LOCAL where that differs from
// IFA_ADDRESS, then the other end's (linux/if_addr.h).
func addrPrefix(m message[unix.IfAddrmsg]) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(m.attrs[unix.IFA_LOCAL])
	if !ok {
		ip, ok = netip.AddrFromSlice(m.attrs[unix.IFA_ADDRESS])
	}
	return netip.PrefixFrom(ip, int(m.header.Prefixlen)), ok
}

func inScope(ip netip.Addr, scope []netip.Prefix) bool {
	if len(scope) == 0 {
		return ip.Is4() || !ip.IsLinkLocalUnicast()
	}
	for _, p := range scope {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (a *applier) addAddr(addr netstate.Addr) error {
	err := a.changeAddr(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, addr)
	if errors.Is(err, unix.EEXIST) {
		return a.sameAddr(addr, err)
	}
	return err
}

// sameAddr returns exists unless addr is there, with its very prefix length.
func (a *applier) sameAddr(addr netstate.Addr, exists error) error {
	index := a.links[addr.Link]
	there, err := a.n.addrsOn(index, map[int32]string{index: addr.Link}, []netip.Prefix{netip.PrefixFrom(addr.Prefix.Addr(), addr.Prefix.Addr().BitLen())})
	if err != nil {
		return err
	}
	for _, t := range there {
		if t == addr {
			return nil
		}
	}
	return exists
}

func (a *applier) delAddr(addr netstate.Addr) error {
	err := a.changeAddr(unix.RTM_DELADDR, 0, addr)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (a *applier) changeAddr(msgType, flags int, addr netstate.Addr) error {
	index, err := a.index(addr.Link)
	if err != nil {
		return err
	}
	ip := addr.Prefix.Addr()
	h := unix.IfAddrmsg{Family: familyOf(ip), Prefixlen: uint8(addr.Prefix.Bits()), Index: uint32(index)}
	// IFA_FLAGS, because IFA_F_NOPREFIXROUTE does not fit into the header's 8 bits.
	// Without it the kernel would put a route to the prefix into main.
	return a.n.change(msgType, flags, header(h), attr(unix.IFA_LOCAL, ip.AsSlice()), attr(unix.IFA_ADDRESS, ip.AsSlice()),
		attr32(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE))
}
