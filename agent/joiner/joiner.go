package joiner

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Spec is what a member is to be.
type Spec struct {
	// ID names the member, as a pod's UID; it is put into the links' aliases. At most
	// 100 bytes, no white space.
	ID string
	// Prefixes are steered to the tailnet: usually topology.TailnetPrefixes and routes.
	Prefixes []netip.Prefix
	// Direct stay on the pod's own interface: the cluster's CIDRs.
	Direct []netip.Prefix
	// Exit steers all else, too.
	Exit bool
}

// Target is a namespace that members attach to: a gateway's, or one that leads to gateways. Make it
// with [NewTarget]; its methods may be used by several goroutines.
type Target struct {
	ns *netns.Handle
	id netns.ID
	k  *kernel.Namespace
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
	if err := t.Repair(); err != nil {
		k.Close()
		return nil, err
	}
	links, err := k.LinkStats([]string{ident.GatewayLinkPrefix + "*"})
	if err != nil {
		k.Close()
		return nil, err
	}
	for _, l := range links {
		if slot, ok := ident.Slot(l.Name); ok && int64(slot) > t.last.Load() {
			t.last.Store(int64(slot))
		}
	}
	return t, nil
}

// Repair puts the base state in place again.
func (t *Target) Repair() error {
	if err := converge(t.k, topology.BaseScope(), topology.Base()); err != nil {
		return fmt.Errorf("prepare gateway namespace %v: %w", t.id, err)
	}
	return nil
}

// Close releases what NewTarget opened; members stay joined.
func (t *Target) Close() { t.k.Close() }

// alias tells a member's link from one to another gateway: the inode number is that of the namespace that
// the link leads to, which cannot be another's while the link exists.
func (t *Target) alias(id string) string { return fmt.Sprintf("%s@%d", id, t.id.Ino) }

// converge is observe, diff, apply.
func converge(k *kernel.Namespace, scope netstate.Scope, want netstate.State) error {
	have, err := k.Observe(scope)
	if err != nil {
		return err
	}
	return k.Apply(netstate.Diff(have, want))
}

// Join makes the namespace a member of the target, or repairs it, and returns its slot. With a nil
// target the member gets what keeps its traffic from leaving another way, and waits:
// the slot is 0.
func Join(member *netns.Handle, t *Target, s Spec) (slot int, err error) {
	m := topology.Member{Prefixes: s.Prefixes, Direct: s.Direct, Exit: s.Exit}
	var o kernel.Options
	if t != nil {
		m.Alias, o.Peer = t.alias(s.ID), t.ns
	}
	k, err := kernel.Open(member, o)
	if err != nil {
		return 0, fmt.Errorf("join member %s: %w", s.ID, err)
	}
	defer k.Close()
	slot, err = join(member, k, t, m)
	if err != nil {
		return slot, fmt.Errorf("join member %s: %w", s.ID, err)
	}
	return slot, nil
}

func join(member *netns.Handle, k *kernel.Namespace, t *Target, m topology.Member) (int, error) {
	have, err := k.Observe(topology.MemberScope())
	if err != nil {
		return 0, err
	}
	if t != nil {
		m.Slot = joined(have, m.Alias)
	}
	// What fails closed comes first, and a link to another gateway goes now. A link that
	// stays keeps its routes: with its slot this is the whole state, not the closed one.
	if err := applyMember(member, k, have, m); err != nil {
		return m.Slot, err
	}
	if t == nil {
		return 0, nil
	}
	if m.Slot == 0 {
		if m.Slot, err = t.attach(k, m); err != nil {
			return 0, err
		}
	}
	if err := converge(t.k, topology.AttachScope(m.Slot), m.GatewayState()); err != nil {
		return m.Slot, err
	}
	return m.Slot, converge(k, topology.MemberScope(), m.State())
}

// joined returns the slot of the link that have holds with that alias; 0: none.
func joined(have netstate.State, alias string) int {
	for _, l := range have.Links {
		if l.Name == ident.MemberLink && l.Alias == ident.AliasPrefix+alias {
			return ident.MemberSlot(l.MAC)
		}
	}
	return 0
}

func applyMember(member *netns.Handle, k *kernel.Namespace, have netstate.State, m topology.Member) (err error) {
	if err := k.Apply(netstate.Diff(have, m.State())); err != nil {
		return err
	}
	nft, err := ruleset.Open(member.FD())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nft.Close()) }()
	_, err = nft.Apply(m.Ruleset())
	return err
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

// Leave takes everything of ours out of the namespace; its link's other end goes with it.
func Leave(member *netns.Handle) (err error) {
	k, err := kernel.Open(member, kernel.Options{})
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	defer k.Close()
	have, err := k.Observe(topology.MemberScope())
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	nft, err := ruleset.Open(member.FD())
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	defer func() { err = errors.Join(err, nft.Close()) }()
	err = errors.Join(k.Apply(netstate.Diff(have, netstate.State{})), nft.Delete(ident.NFTable))
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}
