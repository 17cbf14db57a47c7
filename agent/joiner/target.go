package joiner

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Target is a namespace that members attach to: a gateway's, or one that leads to gateways. Make it
// with [NewTarget]; its methods may be used by several goroutines.
type Target struct {
	ns *netns.Handle
	id netns.ID
	k  *kernel.Namespace
	// nft is used by who prepares and repairs.
	nft *ruleset.Conn
	// last is the slot last tried. Slots go round, so that a new member does not get the
	// addresses of one that has just gone, and with them its connections.
	last atomic.Int64
}

// NewTarget prepares ns, which stays the caller's, for members: its base state (see
// topology.Base).
func NewTarget(ns *netns.Handle) (*Target, error) {
	id, err := ns.ID()
	if err != nil {
		return nil, err
	}
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		return nil, err
	}
	t := &Target{ns: ns, id: id, k: k}
	if t.nft, err = ruleset.Open(ns.FD()); err != nil {
		k.Close()
		return nil, err
	}
	if _, _, err := t.Repair(); err != nil {
		t.Close()
		return nil, err
	}
	links, err := t.Links()
	if err != nil {
		t.Close()
		return nil, err
	}
	for _, l := range links {
		t.last.Store(max(t.last.Load(), int64(l.Slot)))
	}
	return t, nil
}

// Close releases what NewTarget opened; members stay joined.
func (t *Target) Close() {
	t.k.Close()
	_ = t.nft.Close() // a socket that nothing is under way on
}

// ID identifies the namespace.
func (t *Target) ID() netns.ID { return t.id }

// Repair puts the base state in place again, and the tunnel device's sysctls if there is one, and returns what it
// had to do. table: the nftables table was not as it should be.
func (t *Target) Repair() (plan netstate.Plan, table bool, err error) {
	// It comes first: without it, what turns forwarding on would let members' traffic out.
	if table, err = t.nft.Apply(topology.BaseRuleset()); err != nil {
		return nil, table, fmt.Errorf("prepare gateway namespace %v: %w", t.id, err)
	}
	scope, want := topology.BaseScope(), topology.Base()
	tunnel := topology.TUNSysctls(ident.TUN)
	for _, s := range tunnel {
		scope.Sysctls = append(scope.Sysctls, s.Key)
	}
	have, err := t.k.Observe(scope)
	if err != nil {
		return nil, table, fmt.Errorf("prepare gateway namespace %v: %w", t.id, err)
	}
	for _, s := range tunnel {
		if slices.ContainsFunc(have.Sysctls, func(h netstate.Sysctl) bool { return h.Key == s.Key }) {
			want.Sysctls = append(want.Sysctls, s)
		}
	}
	plan = netstate.Diff(have, want)
	if err := t.k.Apply(plan); err != nil {
		return plan, table, fmt.Errorf("prepare gateway namespace %v: %w", t.id, err)
	}
	return plan, table, nil
}

// alias tells a member's link from one to another gateway: the inode number is that of the namespace that
// the link leads to, which cannot be another's while the link exists.
func (t *Target) alias(id string) string { return fmt.Sprintf("%s@%d", id, t.id.Ino) }

// Link is the target's end of a member's link.
type Link struct {
	Name string
	Slot int
	// ID is the member's; "": its maker died before it could say.
	ID string
}

// Links returns the links to members that the kernel holds, by whomever they were made.
func (t *Target) Links() ([]Link, error) {
	have, err := t.k.Observe(netstate.Scope{Links: []string{ident.GatewayLinkPrefix + "*"}})
	if err != nil {
		return nil, fmt.Errorf("list links of gateway namespace %v: %w", t.id, err)
	}
	return t.links(have), nil
}

func (t *Target) links(have netstate.State) []Link {
	var links []Link
	for _, l := range have.Links {
		if slot, ok := ident.Slot(l.Name); ok && l.Kind == netstate.Veth {
			links = append(links, Link{Name: l.Name, Slot: slot, ID: t.memberOf(l.Alias)})
		}
	}
	return links
}

func (t *Target) memberOf(alias string) string {
	rest, ours := strings.CutPrefix(alias, ident.AliasPrefix)
	id, ok := strings.CutSuffix(rest, "@"+strconv.FormatUint(t.id.Ino, 10))
	if !ours || !ok {
		return ""
	}
	return id
}

// Check compares the namespace with what its members, the IDs by slot, need of it. It returns the slots of those that
// something is missing or changed for, and the links that are none of theirs. Its cost is that of looking at
// all members at once.
func (t *Target) Check(members map[int]string) (drifted []int, strangers []Link, err error) {
	links := []string{ident.GatewayLinkPrefix + "*"}
	have, err := t.k.Observe(netstate.Scope{Links: links, Tables: []int{ident.TableMain}, RouteLinks: links})
	if err != nil {
		return nil, nil, fmt.Errorf("check gateway namespace %v: %w", t.id, err)
	}
	var want netstate.State
	for slot, id := range members {
		s := topology.Member{Alias: t.alias(id), Slot: slot}.GatewayState()
		want.Links = append(want.Links, s.Links...)
		want.Neighs = append(want.Neighs, s.Neighs...)
		want.Routes = append(want.Routes, s.Routes...)
	}
	for _, op := range netstate.Diff(have, want) {
		if slot, ok := ident.Slot(linkOf(op)); ok {
			drifted = append(drifted, slot)
		}
	}
	slices.Sort(drifted)
	strangers = slices.DeleteFunc(t.links(have), func(l Link) bool { return members[l.Slot] != "" })
	return slices.Compact(drifted), strangers, nil
}

// linkOf returns the link that an operation puts something right on; "": it puts nothing right, but removes a stranger.
func linkOf(op netstate.Op) string {
	switch o := op.(type) {
	case netstate.LinkAdd:
		return o.Link.Name
	case netstate.LinkSet:
		return o.Name
	case netstate.AddrDel:
		return o.Addr.Link
	case netstate.NeighSet:
		return o.Neigh.Link
	case netstate.NeighDel:
		return o.Neigh.Link
	case netstate.RouteAdd:
		return o.Route.Link
	case netstate.RouteReplace:
		return o.Route.Link
	case netstate.RouteDel:
		return o.Route.Link
	}
	return ""
}

// Remove deletes links, all in one or two requests: the kernel takes its time for each request, hardly for
// each link. The members keep what fails closed.
func (t *Target) Remove(links []Link) error {
	plan := make(netstate.Plan, 0, len(links))
	for _, l := range links {
		plan = append(plan, netstate.LinkDel{Name: l.Name})
	}
	if err := t.k.Apply(plan); err != nil {
		return fmt.Errorf("delete links of gateway namespace %v: %w", t.id, err)
	}
	return nil
}

// attach creates the member's link in a free slot. The kernel decides which are free: it refuses
// a second link of one name, whoever made the first.
func (t *Target) attach(k *kernel.Namespace, m topology.Member) (int, error) {
	for range ident.MaxSlot {
		m.Slot = int(t.last.Add(1)-1)%ident.MaxSlot + 1
		err := k.Apply(netstate.Plan{netstate.LinkAdd{Link: m.State().Links[0]}})
		if err == nil {
			return m.Slot, nil
		}
		if !errors.Is(err, kernel.ErrLinkExists) {
			return 0, err
		}
		// Is it the slot that is taken, or the member's own end?
		if have, oerr := k.Observe(topology.MemberScope()); oerr != nil || len(have.Links) > 0 {
			return 0, errors.Join(err, oerr)
		}
	}
	return 0, fmt.Errorf("gateway namespace %v has no free slot of %d; spread the group's pods over more nodes", t.id, ident.MaxSlot)
}
