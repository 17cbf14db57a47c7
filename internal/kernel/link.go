//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

const (
	kindVeth = "veth"
	// linkGroup marks the links that we made, see the package comment.
	linkGroup = ident.RouteProtocol
	// doomedGroup gathers links to be deleted at once; "tgrm".
	doomedGroup = 0x7467_726d
	// deleteBatch is how many links one message deletes. The kernel waits for
	// its readers once a message, 18 ms, and then takes half a millisecond
	// a veth, during which nobody on the machine can change a link.
	deleteBatch = 200
	// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
	genModeNone = 1
	// skipStats is RTEXT_FILTER_SKIP_STATS: half the size of an answer, and
	// the work of adding up every CPU's counters.
	skipStats = 1 << 3
)

// link is what the kernel says of a link.
type link struct {
	index     int32
	kind      string // IFLA_INFO_KIND, "" for physical ones
	group     uint32
	genMode   uint8
	hasIPv6   bool
	running   bool   // see AwaitReady
	stats     []byte // struct rtnl_link_stats64, when asked for
	described netstate.Link
}

func parseLink(b []byte) (link, error) {
	m, err := parse[unix.IfInfomsg](b)
	if err != nil {
		return link{}, err
	}
	l := link{
		index: m.header.Index, group: u32(m.attrs[unix.IFLA_GROUP]), stats: m.attrs[unix.IFLA_STATS64],
		running: m.header.Flags&unix.IFF_RUNNING != 0,
	}
	l.described = netstate.Link{
		Name:       unix.ByteSliceToString(m.attrs[unix.IFLA_IFNAME]),
		Alias:      unix.ByteSliceToString(m.attrs[unix.IFLA_IFALIAS]),
		MTU:        int(u32(m.attrs[unix.IFLA_MTU])),
		TxQueueLen: int(u32(m.attrs[unix.IFLA_TXQLEN])),
		MAC:        net.HardwareAddr(m.attrs[unix.IFLA_ADDRESS]).String(),
		Up:         m.header.Flags&unix.IFF_UP != 0,
	}
	info, err := parseAttrs(m.attrs[unix.IFLA_LINKINFO])
	if err != nil {
		return link{}, err
	}
	l.kind = unix.ByteSliceToString(info[unix.IFLA_INFO_KIND])
	if err := l.parseIPv6(m.attrs[unix.IFLA_AF_SPEC]); err != nil {
		return link{}, err
	}
	l.described.Kind = netstate.Existing
	if l.ours() {
		l.described.Kind = netstate.Veth
	}
	return l, nil
}

func (l *link) parseIPv6(afSpec []byte) error {
	families, err := parseAttrs(afSpec)
	if err != nil {
		return err
	}
	var inet6 []byte
	if inet6, l.hasIPv6 = families[unix.AF_INET6]; !l.hasIPv6 {
		return nil
	}
	attrs, err := parseAttrs(inet6)
	if mode := attrs[unix.IFLA_INET6_ADDR_GEN_MODE]; len(mode) == 1 {
		l.genMode = mode[0]
	}
	return err
}

// ours says that we made the link. An alias of ours is enough, the group too: a pair
// half-made has no alias yet, and one tampered with has another.
func (l link) ours() bool {
	return l.kind == kindVeth && (l.group == linkGroup || l.group == doomedGroup || l.bears())
}

func (l link) bears() bool { return strings.HasPrefix(l.described.Alias, ident.AliasPrefix) }

// linkByName returns ErrNoLink when there is none.
func (n *Namespace) linkByName(name string) (link, error) {
	l, err := n.getLink(unix.IfInfomsg{}, attr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err == nil && l.described.Name != name {
		err = ErrNoLink // the kernel found it by an alternative name
	}
	return l, err
}

func (n *Namespace) linkByIndex(index int32) (link, error) {
	return n.getLink(unix.IfInfomsg{Index: index})
}

func (n *Namespace) getLink(h unix.IfInfomsg, parts ...nl.NetlinkRequestData) (link, error) {
	parts = append([]nl.NetlinkRequestData{header(h)}, append(parts, attr32(unix.IFLA_EXT_MASK, skipStats))...)
	msgs, err := request(n.dumps, unix.RTM_GETLINK, 0, parts...).Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	switch {
	case errors.Is(err, unix.ENODEV):
		return link{}, ErrNoLink
	case err != nil:
		return link{}, err
	case len(msgs) != 1:
		return link{}, fmt.Errorf("%d answers to one question", len(msgs))
	}
	return parseLink(msgs[0])
}

// matchingLinks returns the links that patterns, as in netstate.Scope, name, each once.
// mask is IFLA_EXT_MASK.
func (n *Namespace) matchingLinks(patterns []string, mask uint32) ([]link, error) {
	if !slices.ContainsFunc(patterns, isPrefix) && mask&skipStats != 0 {
		return n.namedLinks(patterns)
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	msgs, err := n.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, header(unix.IfInfomsg{}), attr32(unix.IFLA_EXT_MASK, mask))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var links []link
	for _, b := range msgs {
		l, err := parseLink(b)
		if err != nil {
			return nil, err
		}
		if l.matches(patterns) {
			links = append(links, l)
		}
	}
	return links, nil
}

// namedLinks asks for each link by name, at a cost that does not depend on how many
// others there are.
func (n *Namespace) namedLinks(names []string) ([]link, error) {
	var links []link
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		l, err := n.linkByName(name)
		if errors.Is(err, ErrNoLink) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read link %s: %w", name, err)
		}
		links = append(links, l)
	}
	return links, nil
}

func isPrefix(pattern string) bool { return strings.HasSuffix(pattern, "*") }

func (l link) matches(patterns []string) bool {
	for _, p := range patterns {
		prefix, ok := strings.CutSuffix(p, "*")
		if l.described.Name == p || ok && strings.HasPrefix(l.described.Name, prefix) && (l.ours() || l.bears()) {
			return true
		}
	}
	return false
}

func (a *applier) addLink(l netstate.Link) error {
	if l.Kind != netstate.Veth {
		return fmt.Errorf("a link of kind %q cannot be made, only a %q can", l.Kind, netstate.Veth)
	}
	own, err := linkAttrs(l.Name, l.MAC, l.MTU, l.TxQueueLen)
	if err != nil {
		return err
	}
	peer, err := linkAttrs(l.Peer.Name, l.Peer.MAC, l.MTU, l.TxQueueLen)
	if err != nil {
		return err
	}
	peer = slices.Concat([]nl.NetlinkRequestData{header(unix.IfInfomsg{})}, peer,
		[]nl.NetlinkRequestData{attr32(unix.IFLA_NET_NS_FD, uint32(a.n.peer.FD()))})
	info := nested(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte(kindVeth)),
		nested(unix.IFLA_INFO_DATA, nested(nl.VETH_INFO_PEER, peer...)))

	delete(a.links, l.Name)
	err = a.n.change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		slices.Concat([]nl.NetlinkRequestData{header(unix.IfInfomsg{})}, own, []nl.NetlinkRequestData{info})...)
	if errors.Is(err, unix.EEXIST) {
		err = a.taken(l)
	}
	if err != nil {
		return err
	}
	set := netstate.LinkSet{Name: l.Name, Alias: l.Alias, Up: l.Up}
	return a.setLink(set)
}

// taken says what EEXIST means for a veth: nil when the very link is there.
func (a *applier) taken(l netstate.Link) error {
	old, err := a.n.linkByName(l.Name)
	switch {
	case errors.Is(err, ErrNoLink):
		return fmt.Errorf("peer %s: %w", l.Peer.Name, ErrLinkExists)
	case err != nil:
		return err
	case !old.ours() || l.Alias == "" || old.described.Alias != l.Alias:
		return fmt.Errorf("%s: %w", l.Name, ErrLinkExists)
	}
	return nil
}

// linkAttrs are what both ends of a veth can be given at creation.
func linkAttrs(name, mac string, mtu, qlen int) ([]nl.NetlinkRequestData, error) {
	attrs := []nl.NetlinkRequestData{attr32(unix.IFLA_GROUP, linkGroup)}
	if name != "" {
		attrs = append(attrs, attr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	rest, err := sharedAttrs(mac, mtu, qlen)
	return append(attrs, rest...), err
}

// sharedAttrs are what a link can be given at creation and afterwards.
func sharedAttrs(mac string, mtu, qlen int) ([]nl.NetlinkRequestData, error) {
	var attrs []nl.NetlinkRequestData
	if mac != "" {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return nil, fmt.Errorf("hardware address %q: %w", mac, err)
		}
		attrs = append(attrs, attr(unix.IFLA_ADDRESS, hw))
	}
	if mtu != 0 {
		attrs = append(attrs, attr32(unix.IFLA_MTU, uint32(mtu)))
	}
	if qlen != 0 {
		attrs = append(attrs, attr32(unix.IFLA_TXQLEN, uint32(qlen)))
	}
	return attrs, nil
}

func (a *applier) setLink(set netstate.LinkSet) error {
	l, err := a.n.linkByName(set.Name)
	if err != nil {
		return err
	}
	a.links[set.Name] = l.index
	attrs, err := sharedAttrs(set.MAC, set.MTU, set.TxQueueLen)
	if err != nil {
		return err
	}
	if set.Alias != "" {
		attrs = append(attrs, attr(unix.IFLA_IFALIAS, []byte(set.Alias)))
	}
	if l.ours() && l.hasIPv6 && l.genMode != genModeNone {
		attrs = append(attrs, nested(unix.IFLA_AF_SPEC, nested(unix.AF_INET6,
			attr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(genModeNone)))))
	}
	if len(attrs) > 0 {
		if err := a.n.changeLink(unix.IfInfomsg{Index: l.index}, attrs...); err != nil {
			return err
		}
	}
	// In a message of its own: within one, do_setlink sets the link up first, and a
	// link-local address would be there before the mode that forbids it.
	if set.Up || set.Down {
		h := unix.IfInfomsg{Index: l.index, Change: unix.IFF_UP}
		if set.Up {
			h.Flags = unix.IFF_UP
		}
		return a.n.changeLink(h)
	}
	return nil
}

func (n *Namespace) changeLink(h unix.IfInfomsg, attrs ...nl.NetlinkRequestData) error {
	err := n.change(unix.RTM_SETLINK, 0, append([]nl.NetlinkRequestData{header(h)}, attrs...)...)
	if errors.Is(err, unix.ENODEV) {
		return ErrNoLink
	}
	return err
}

// delLinks deletes links of ours in batches.
func (a *applier) delLinks(ops []netstate.LinkDel) error {
	var errs []error
	for batch := range slices.Chunk(ops, deleteBatch) {
		errs = append(errs, a.delBatch(batch))
	}
	return errors.Join(errs...)
}

func (a *applier) delBatch(ops []netstate.LinkDel) error {
	var errs []error
	doomed := 0
	for _, op := range ops {
		delete(a.links, op.Name)
		l, err := a.n.linkByName(op.Name)
		if err == nil && !l.ours() {
			err = ErrNotOurs
		}
		if err == nil {
			err = a.n.changeLink(unix.IfInfomsg{Index: l.index}, attr32(unix.IFLA_GROUP, doomedGroup))
		}
		switch {
		case err == nil:
			doomed++
		case !errors.Is(err, ErrNoLink):
			errs = append(errs, fmt.Errorf("%v: %w", op, err))
		}
	}
	if doomed > 0 {
		err := a.n.change(unix.RTM_DELLINK, 0, header(unix.IfInfomsg{}), attr32(unix.IFLA_GROUP, doomedGroup))
		if err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("delete %d links: %w", doomed, err))
		}
	}
	return errors.Join(errs...)
}

// LinkStats is the traffic of a link, from the view of its namespace: received is
// what came out of the link.
type LinkStats struct {
	Name, Alias          string
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	RxDropped, TxDropped uint64
}

// LinkStats returns the counters of the links that match patterns as in
// netstate.Scope, by name.
func (n *Namespace) LinkStats(patterns []string) ([]LinkStats, error) {
	links, err := n.matchingLinks(patterns, 0)
	if err != nil {
		return nil, err
	}
	stats := make([]LinkStats, 0, len(links))
	for _, l := range links {
		// The first eight counters of struct rtnl_link_stats64 (linux/if_link.h).
		var c struct{ RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped uint64 }
		if _, err := binary.Decode(l.stats, binary.NativeEndian, &c); err != nil {
			return nil, fmt.Errorf("counters of link %s: %w", l.described.Name, err)
		}
		stats = append(stats, LinkStats{
			l.described.Name, l.described.Alias, c.RxBytes, c.TxBytes, c.RxPackets, c.TxPackets, c.RxDropped, c.TxDropped,
		})
	}
	slices.SortFunc(stats, func(a, b LinkStats) int { return strings.Compare(a.Name, b.Name) })
	return stats, nil
}
