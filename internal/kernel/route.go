//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

var routeTypes = map[uint8]netstate.RouteType{
	unix.RTN_UNICAST: netstate.Unicast, unix.RTN_UNREACHABLE: netstate.Unreachable,
}

// namer finds link names by index, and remembers them for one observation.
type namer struct {
	n     *Namespace
	names map[int32]string
}

// name returns "" when the link has gone meanwhile.
func (w namer) name(index int32) (string, error) {
	if name, ok := w.names[index]; ok || index == 0 {
		return name, nil
	}
	l, err := w.n.linkByIndex(index)
	if err != nil && !errors.Is(err, ErrNoLink) {
		return "", fmt.Errorf("read link %d: %w", index, err)
	}
	w.names[index] = l.described.Name
	return l.described.Name, nil
}

// foundRoute is a route of our protocol, and the message that told it.
type foundRoute struct {
	netstate.Route
	raw []byte
}

// routes returns the routes of our protocol in a table, in the kernel's order.
// The kernel leaves out those of other tables, protocols and, when oif is not 0,
// other links.
func (n *Namespace) routes(family uint8, table int, oif int32, names namer) ([]foundRoute, error) {
	parts := []nl.NetlinkRequestData{
		header(unix.RtMsg{Family: family, Protocol: ident.RouteProtocol}), attr32(unix.RTA_TABLE, uint32(table)),
	}
	if oif != 0 {
		parts = append(parts, attr32(unix.RTA_OIF, uint32(oif)))
	}
	msgs, err := n.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, parts...)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, nil // no such table yet, or no such link any more
	}
	if err != nil {
		return nil, fmt.Errorf("list routes of table %d: %w", table, err)
	}
	var routes []foundRoute
	for _, b := range msgs {
		m, err := parse[unix.RtMsg](b)
		if err != nil {
			return nil, err
		}
		// What a kernel without strict checking (before 4.20) would send too.
		if m.header.Protocol != ident.RouteProtocol || m.header.Flags&unix.RTM_F_CLONED != 0 || routeTable(m) != table {
			continue
		}
		r, err := parseRoute(m, names)
		if err != nil {
			return nil, err
		}
		routes = append(routes, foundRoute{r, b})
	}
	return routes, nil
}

func routeTable(m message[unix.RtMsg]) int {
	if t := m.attrs[unix.RTA_TABLE]; t != nil {
		return int(u32(t))
	}
	return int(m.header.Table)
}

func parseRoute(m message[unix.RtMsg], names namer) (netstate.Route, error) {
	r := netstate.Route{
		Table: routeTable(m), Metric: int(u32(m.attrs[unix.RTA_PRIORITY])), Type: routeTypes[m.header.Type],
		Dst: prefixOf(m.header.Family, m.attrs[unix.RTA_DST], m.header.Dst_len), Extra: routeExtra(m),
	}
	if r.Type == "" {
		r.Type = netstate.RouteType(fmt.Sprintf("type-%d", m.header.Type))
	}
	r.Via, _ = netip.AddrFromSlice(m.attrs[unix.RTA_GATEWAY])
	r.Src, _ = netip.AddrFromSlice(m.attrs[unix.RTA_PREFSRC])
	var err error
	if r.Type == netstate.Unicast { // IPv6 says "dev lo" of all others
		r.Link, err = names.name(int32(u32(m.attrs[unix.RTA_OIF])))
	}
	return r, err
}

func prefixOf(family uint8, dst []byte, bits uint8) netip.Prefix {
	ip, ok := netip.AddrFromSlice(dst)
	if !ok {
		ip = netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			ip = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(ip, int(bits))
}

// routeExtra returns what a netstate.Route has no field for.
func routeExtra(m message[unix.RtMsg]) string {
	var extra []string
	if m.header.Tos != 0 {
		extra = append(extra, fmt.Sprintf("tos %d", m.header.Tos))
	}
	if m.header.Src_len != 0 {
		extra = append(extra, fmt.Sprintf("from /%d", m.header.Src_len))
	}
	return strings.Join(append(extra, unknownAttrs(m.attrs, func(kind uint16, value []byte) bool {
		switch kind {
		case unix.RTA_TABLE, unix.RTA_DST, unix.RTA_PRIORITY, unix.RTA_PREFSRC, unix.RTA_GATEWAY, unix.RTA_OIF, unix.RTA_CACHEINFO:
			return true
		case unix.RTA_PREF:
			return len(value) == 1 && value[0] == 0 // medium, the default (RFC 4191)
		}
		return false
	})...), " ")
}

// unknownAttrs returns the attributes that are not known, in words and in order.
func unknownAttrs(attrs map[uint16][]byte, known func(kind uint16, value []byte) bool) []string {
	var extra []string
	for kind, value := range attrs {
		if !known(kind, value) {
			extra = append(extra, fmt.Sprintf("attribute %d %x", kind, value))
		}
	}
	slices.Sort(extra)
	return extra
}

func (a *applier) addRoute(r netstate.Route) error {
	err := a.changeRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	there, err := a.find(r)
	if err == nil && there == nil {
		err = ErrRouteExists
	}
	return err
}

func (a *applier) replaceRoute(r netstate.Route) error {
	err := a.changeRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, r)
	if errors.Is(err, unix.EEXIST) {
		// IPv4 replaces the first route of a key, and says this when the
		// wanted one is there behind it (fib_table_insert).
		return nil
	}
	return err
}

func (a *applier) delRoute(r netstate.Route) error {
	var err error
	if r.Extra != "" || routeType(r) == 0 {
		err = a.delForeignShape(r)
	} else {
		err = a.changeRoute(unix.RTM_DELROUTE, 0, r)
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// delForeignShape deletes a route that a netstate.Route cannot tell in full, by the
// message in which the kernel did.
func (a *applier) delForeignShape(r netstate.Route) error {
	raw, err := a.find(r)
	if err != nil || raw == nil {
		return err
	}
	return a.n.change(unix.RTM_DELROUTE, 0, payload(raw))
}

// find returns the message that tells r, nil when r is not there.
func (a *applier) find(r netstate.Route) ([]byte, error) {
	routes, err := a.n.routes(familyOf(r.Dst.Addr()), r.Table, 0, namer{a.n, map[int32]string{}})
	for _, f := range routes {
		if f.Route == r {
			return f.raw, err
		}
	}
	return nil, err
}

func routeType(r netstate.Route) uint8 {
	for number, name := range routeTypes {
		if name == r.Type {
			return number
		}
	}
	return 0
}

func (a *applier) changeRoute(msgType, flags int, r netstate.Route) error {
	h := unix.RtMsg{
		Family: familyOf(r.Dst.Addr()), Dst_len: uint8(r.Dst.Bits()), Protocol: ident.RouteProtocol, Type: routeType(r),
	}
	switch {
	case h.Type == 0:
		return fmt.Errorf("a route of type %q cannot be made", r.Type)
	case msgType == unix.RTM_DELROUTE:
		h.Scope = unix.RT_SCOPE_NOWHERE // any
	case r.Type == netstate.Unicast && !r.Via.IsValid():
		h.Scope = unix.RT_SCOPE_LINK // as ip-route(8) does; IPv6 has no scopes
	}
	parts := []nl.NetlinkRequestData{
		nil, attr(unix.RTA_DST, r.Dst.Addr().AsSlice()),
		attr32(unix.RTA_TABLE, uint32(r.Table)), attr32(unix.RTA_PRIORITY, uint32(r.Metric)),
	}
	if r.Link != "" {
		index, err := a.index(r.Link)
		if err != nil {
			return err
		}
		parts = append(parts, attr32(unix.RTA_OIF, uint32(index)))
	}
	if r.Via.IsValid() {
		if r.Via.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("next hop %v is not of the family of destination %v", r.Via, r.Dst)
		}
		h.Flags |= unix.RTNH_F_ONLINK
		parts = append(parts, attr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	}
	if r.Src.IsValid() {
		parts = append(parts, attr(unix.RTA_PREFSRC, r.Src.AsSlice()))
	}
	parts[0] = header(h)
	return a.n.change(msgType, flags, parts...)
}
