package joiner

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// Resolvers are those that the member asks for names. With Redirect its queries go to the tailnet's
	// resolver instead, as long as it has its link.
	Resolvers []netip.Addr
	Redirect  bool
	// Keep says what of the member as found stays, beside what the fields above say.
	Keep Keep
}

// Keep is for a caller that does not know everything yet, as after its restart: what a member has, others may
// have good reason for.
type Keep struct {
	// Link: without a target, a link of the member's stays, wherever it leads.
	Link bool
	// Prefixes steered, and Direct, stay so; default routes are Exit's and do not count.
	Prefixes, Direct bool
	// Redirect: a redirection of queries stays, to the Resolvers of the Spec, unless the link is gone or leads to
	// another target: that one has not said that it answers.
	Redirect bool
}

// Result is what a join came to, and what it changed: nothing where all was right.
type Result struct {
	// Slot is the member's at its target, or at the one that its kept link leads to; 0: it has no link.
	Slot int
	// Closed: what keeps the member's traffic from leaving another way is in place.
	Closed bool
	// Kept: the link was left although there was no target.
	Kept bool
	// Made: the link is new.
	Made bool
	// Member and Gateway are the changes of the two namespaces, the link's creation apart.
	Member, Gateway netstate.Plan
	// Table: the member's nftables table was replaced.
	Table bool
}

// Changed reports whether anything was changed.
func (r Result) Changed() bool {
	return r.Made || r.Table || !r.Member.Empty() || !r.Gateway.Empty()
}

// converge is observe, diff, apply.
func converge(k *kernel.Namespace, scope netstate.Scope, want netstate.State) (netstate.Plan, error) {
	have, err := k.Observe(scope)
	if err != nil {
		return nil, err
	}
	plan := netstate.Diff(have, want)
	return plan, k.Apply(plan)
}

// Join makes the namespace a member of the target, or repairs it, and returns its slot. With a nil
// target the member gets what keeps its traffic from leaving another way, and waits:
// the slot is 0.
func Join(member *netns.Handle, t *Target, s Spec) (slot int, err error) {
	r, err := Ensure(member, t, s)
	return r.Slot, err
}

// Ensure is [Join] for who wants to know what was changed. The result is valid with an error, too.
func Ensure(member *netns.Handle, t *Target, s Spec) (r Result, err error) {
	j, err := open(member, t, s)
	if err != nil {
		return r, fmt.Errorf("join member %s: %w", s.ID, err)
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := j.run(); err != nil {
		return j.res, fmt.Errorf("join member %s: %w", s.ID, err)
	}
	return j.res, nil
}

// job is one join.
type job struct {
	t   *Target
	k   *kernel.Namespace
	nft *ruleset.Conn
	fd  int
	s   Spec
	res Result
}

func open(member *netns.Handle, t *Target, s Spec) (*job, error) {
	var o kernel.Options
	if t != nil {
		o.Peer = t.ns
	}
	k, err := kernel.Open(member, o)
	if err != nil {
		return nil, err
	}
	nft, err := ruleset.Open(member.FD())
	if err != nil {
		k.Close()
		return nil, err
	}
	return &job{t: t, k: k, nft: nft, fd: member.FD(), s: s}, nil
}

func (j *job) close() error {
	j.k.Close()
	return j.nft.Close()
}

// intent returns what the member is to be, as far as its namespace tells: its slot is that of a link that is right.
func (j *job) intent(have netstate.State, table ruleset.Table) topology.Member {
	m := topology.Member{Prefixes: j.s.Prefixes, Direct: j.s.Direct, Exit: j.s.Exit}
	if j.t != nil {
		m.Alias = j.t.alias(j.s.ID)
		m.Slot = joined(have, m.Alias)
	} else if alias, slot := linkTo(have, j.s.ID); j.s.Keep.Link {
		m.Alias, m.Slot = alias, slot
	}
	if j.s.Redirect || j.s.Keep.Redirect && m.Slot != 0 && topology.Redirects(table) {
		m.Resolvers = j.s.Resolvers
	}
	if j.s.Keep.Prefixes {
		m.Prefixes = union(m.Prefixes, steered(have))
	}
	if j.s.Keep.Direct {
		m.Direct = union(m.Direct, direct(have))
	}
	return m
}

func (j *job) observe() (netstate.State, ruleset.Table, error) {
	have, err := j.k.Observe(topology.MemberScope())
	if err != nil {
		return netstate.State{}, ruleset.Table{}, err
	}
	table, _, err := j.nft.Observe(ident.NFTable)
	return have, table, err
}

func (j *job) run() error {
	have, table, err := j.observe()
	if err != nil {
		return err
	}
	m := j.intent(have, table)
	j.res.Slot = m.Slot
	// What fails closed comes first, and a link to another gateway goes now. A link that
	// stays keeps its routes: with its slot this is the whole state, not the closed one.
	j.res.Member = netstate.Diff(have, m.State())
	err = errors.Join(j.k.Apply(j.res.Member), j.filter(m, table))
	if err != nil {
		return err
	}
	j.res.Closed = true
	if j.t == nil {
		j.res.Kept = m.Slot != 0
		return nil
	}
	if err := j.link(m); err != nil || !j.res.Changed() {
		return err
	}
	// It has joined when its first packet gets an answer.
	return j.k.AwaitReady(ident.MemberLink)
}

// link makes what the closed state lacks, on both sides.
func (j *job) link(m topology.Member) (err error) {
	made := m.Slot == 0
	if made {
		if m.Slot, err = j.t.attach(j.k, m); err != nil {
			return err
		}
		j.res.Slot, j.res.Made = m.Slot, true
	}
	j.res.Gateway, err = converge(j.t.k, topology.AttachScope(m.Slot), m.GatewayState())
	if err != nil || !made {
		return err
	}
	more, err := converge(j.k, topology.MemberScope(), m.State())
	j.res.Member = append(j.res.Member, more...)
	if err != nil || len(m.Resolvers) == 0 {
		return err
	}
	// Queries are redirected when there is where to.
	table, _, err := j.nft.Observe(ident.NFTable)
	if err != nil {
		return err
	}
	return j.filter(m, table)
}

// filter makes the member's table as m says; have is the one found.
func (j *job) filter(m topology.Member, have ruleset.Table) error {
	want := m.Ruleset()
	if ruleset.Equal(have, want) {
		return nil
	}
	changed, err := j.nft.Apply(want)
	j.res.Table = j.res.Table || changed
	if err == nil && topology.Redirects(have) && !topology.Redirects(want) {
		err = forget(j.fd, topology.MarkDNS, topology.MarkDNS)
	}
	return err
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

// linkTo returns the alias, without its prefix, and the slot of the link that the member of that ID has to
// whatever target; 0: none.
func linkTo(have netstate.State, id string) (alias string, slot int) {
	for _, l := range have.Links {
		rest, ours := strings.CutPrefix(l.Alias, ident.AliasPrefix)
		if l.Name == ident.MemberLink && ours && strings.HasPrefix(rest, id+"@") {
			return rest, ident.MemberSlot(l.MAC)
		}
	}
	return "", 0
}

// steered returns the prefixes that have steers to the tailnet, default routes apart. What is there in half, its
// way out or what fails closed behind, counts.
func steered(have netstate.State) []netip.Prefix {
	var ps []netip.Prefix
	for _, r := range have.Routes {
		if r.Table == ident.TableMember && r.Dst.Bits() > 0 {
			ps = append(ps, r.Dst)
		}
	}
	return ps
}

func direct(have netstate.State) []netip.Prefix {
	var ps []netip.Prefix
	for _, r := range have.Rules {
		if r.Priority == ident.RuleDirect && r.Dst.IsValid() {
			ps = append(ps, r.Dst)
		}
	}
	return ps
}

func union(a, b []netip.Prefix) []netip.Prefix {
	ps := slices.Concat(a, b)
	slices.SortFunc(ps, netip.Prefix.Compare)
	return slices.Compact(ps)
}

// Leave takes everything of ours out of the namespace; its link's other end goes with it.
func Leave(member *netns.Handle) (err error) {
	j, err := open(member, nil, Spec{})
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	defer func() { err = errors.Join(err, j.close()) }()
	have, table, err := j.observe()
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	err = errors.Join(j.k.Apply(netstate.Diff(have, netstate.State{})), j.nft.Delete(ident.NFTable))
	if topology.Redirects(table) {
		// The kernel forgets them with the link, but for those of many links at once (MAX_MASQ_WORKER_COUNT).
		err = errors.Join(err, forget(j.fd, topology.MarkDNS, topology.MarkDNS))
	}
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}
