//go:build linux

package rig

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Member is a host that can be joined to a gateway, as a pod is.
type Member struct {
	*world.Host
	// Slot is its number at its gateway; 0: not joined.
	Slot int
	// Spec is what it was last joined as.
	Spec joiner.Spec
}

// AddMember makes a host that is a member of nothing yet.
func (r *Rig) AddMember(name string) (*Member, error) {
	h, err := r.World.AddHost(name)
	if err != nil {
		return nil, fmt.Errorf("make member %s: %w", name, err)
	}
	m := &Member{Host: h}
	r.mu.Lock()
	r.members = append(r.members, m)
	r.mu.Unlock()
	return m, nil
}

// Spec is what an agent would ask for: the tailnet, every route of the rig's nodes, the cluster direct, and, for
// exit, all else.
func (r *Rig) Spec(id string, exit bool) joiner.Spec {
	return joiner.Spec{
		ID: id, Prefixes: append(topology.TailnetPrefixes(), SubnetV4, SubnetV6, AppV4, LearnedV4, LearnedV6), Direct: r.ClusterCIDRs(), Exit: exit,
	}
}

// Join joins the member to a gateway, or repairs it; with nil it only gets what keeps its
// traffic in.
func (m *Member) Join(g *Gateway, s joiner.Spec) error {
	var t *joiner.Target
	if g != nil {
		t = g.Target
	}
	slot, err := joiner.Join(m.Handle(), t, s)
	m.Slot, m.Spec = slot, s
	return err
}

// Leave takes it out again.
func (m *Member) Leave() error {
	m.Slot = 0
	return joiner.Leave(m.Handle())
}

// LinkAddr returns the member's address on its link, for a family of 4 or 6. It must be joined.
func (m *Member) LinkAddr(family int) netip.Addr {
	v4, v6 := ident.MemberAddrs(m.Slot)
	return pick(family, v4, v6)
}

// GatewayLink is the name of its link in the gateway.
func (m *Member) GatewayLink() string { return ident.GatewayLink(m.Slot) }

// AddRoute sends dst out by a link of h, to via if that is valid, in h's main table: what a
// program with privileges in its own namespace could do.
func AddRoute(h *world.Host, dst netip.Prefix, via netip.Addr, link string) error {
	err := h.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipnet(dst)}
		if via.IsValid() {
			r.Gw, r.Flags = net.IP(via.AsSlice()), int(netlink.FLAG_ONLINK)
		}
		return netlink.RouteReplace(r)
	})
	if err != nil {
		return fmt.Errorf("route %v by %s in %s: %w", dst, link, h.Name, err)
	}
	return nil
}

// DeleteRoute takes a route of [AddRoute] away.
func DeleteRoute(h *world.Host, dst netip.Prefix, link string) error {
	err := h.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		return netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipnet(dst)})
	})
	if err != nil {
		return fmt.Errorf("delete route %v by %s in %s: %w", dst, link, h.Name, err)
	}
	return nil
}

// HasRoute reports whether h has exactly that route by a link, in the members' table.
func HasRoute(h *world.Host, dst netip.Prefix, link string) bool {
	k, err := kernel.Open(h.Handle(), kernel.Options{})
	if err != nil {
		return false
	}
	defer k.Close()
	have, err := k.Observe(netstate.Scope{Tables: []int{ident.TableMember}})
	return err == nil && slices.ContainsFunc(have.Routes, func(r netstate.Route) bool { return r.Dst == dst && r.Link == link })
}

// SetDown sets a link of h down, DeleteLink deletes it: what tampers with a gateway.
func SetDown(h *world.Host, link string) error { return withLink(h, link, netlink.LinkSetDown) }

// DeleteLink deletes a link of h.
func DeleteLink(h *world.Host, link string) error { return withLink(h, link, netlink.LinkDel) }

// HasLink reports whether h has a link of that name.
func HasLink(h *world.Host, link string) bool {
	return withLink(h, link, func(netlink.Link) error { return nil }) == nil
}

func withLink(h *world.Host, name string, do func(netlink.Link) error) error {
	err := h.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return do(l)
	})
	if err != nil {
		return fmt.Errorf("link %s of %s: %w", name, h.Name, err)
	}
	return nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: slices.Clone(net.IP(p.Masked().Addr().AsSlice())), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
