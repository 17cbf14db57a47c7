//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// neighsOn returns the permanent neighbours on the link of index; index 0 asks for
// those on all links.
func (n *Namespace) neighsOn(index int32, names map[int32]string) ([]netstate.Neigh, error) {
	parts := []nl.NetlinkRequestData{header(unix.NdMsg{})}
	if index != 0 {
		parts = append(parts, attr32(unix.NDA_IFINDEX, uint32(index)))
	}
	msgs, err := n.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, parts...)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var neighs []netstate.Neigh
	for _, b := range msgs {
		m, err := parse[unix.NdMsg](b)
		if err != nil {
			return nil, err
		}
		name, ok := names[m.header.Ifindex]
		ip, valid := netip.AddrFromSlice(m.attrs[unix.NDA_DST])
		if ok && valid && m.header.State == unix.NUD_PERMANENT && m.header.Flags&unix.NTF_PROXY == 0 {
			mac := net.HardwareAddr(m.attrs[unix.NDA_LLADDR]).String()
			neighs = append(neighs, netstate.Neigh{Link: name, IP: ip, MAC: mac})
		}
	}
	return neighs, nil
}

func (a *applier) setNeigh(neigh netstate.Neigh) error {
	mac, err := net.ParseMAC(neigh.MAC)
	if err != nil {
		return fmt.Errorf("hardware address %q: %w", neigh.MAC, err)
	}
	h := unix.NdMsg{State: unix.NUD_PERMANENT, Type: unix.RTN_UNICAST}
	return a.changeNeigh(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, h, neigh, attr(unix.NDA_LLADDR, mac))
}

func (a *applier) delNeigh(neigh netstate.Neigh) error {
	err := a.changeNeigh(unix.RTM_DELNEIGH, 0, unix.NdMsg{}, neigh)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (a *applier) changeNeigh(msgType, flags int, h unix.NdMsg, neigh netstate.Neigh, more ...nl.NetlinkRequestData) error {
	index, err := a.index(neigh.Link)
	if err != nil {
		return err
	}
	h.Family, h.Ifindex = familyOf(neigh.IP), index
	return a.n.change(msgType, flags, append([]nl.NetlinkRequestData{header(h), attr(unix.NDA_DST, neigh.IP.AsSlice())}, more...)...)
}
