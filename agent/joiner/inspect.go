package joiner

import (
	"errors"
	"fmt"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Inspection is a member as wanted and as it is.
type Inspection struct {
	// Slot is that of its link; 0: it has none that is right, and what is wanted here is the closed state.
	Slot    int
	Member  Side
	Gateway Side // zero without a link
	// DesiredTable and ObservedTable are the member's nftables table in nft's syntax; "": none.
	DesiredTable, ObservedTable string
	TableEqual                  bool
}

// Side is one namespace, as far as it is ours.
type Side struct {
	Desired, Observed netstate.State
	Plan              netstate.Plan // what would be changed; empty: nothing
}

// InPlace reports whether nothing would be changed, had the member its link or none to have.
func (i Inspection) InPlace() bool {
	return i.TableEqual && i.Member.Plan.Empty() && i.Gateway.Plan.Empty()
}

// Inspect looks at what [Ensure] would look at and changes nothing.
func Inspect(member *netns.Handle, t *Target, s Spec) (i Inspection, err error) {
	j, err := open(member, t, s)
	if err != nil {
		return i, fmt.Errorf("inspect member %s: %w", s.ID, err)
	}
	defer func() { err = errors.Join(err, j.close()) }()
	have, table, err := j.observe()
	if err != nil {
		return i, fmt.Errorf("inspect member %s: %w", s.ID, err)
	}
	m := j.intent(have, table)
	want := m.Ruleset()
	i = Inspection{
		Slot: m.Slot, Member: side(have, m.State()),
		DesiredTable: want.String(), TableEqual: ruleset.Equal(table, want),
	}
	if table.Name != "" {
		i.ObservedTable = table.String()
	}
	if t == nil || m.Slot == 0 {
		return i, nil
	}
	far, err := t.k.Observe(topology.AttachScope(m.Slot))
	if err != nil {
		return i, fmt.Errorf("inspect member %s at link %s: %w", s.ID, ident.GatewayLink(m.Slot), err)
	}
	i.Gateway = side(far, m.GatewayState())
	return i, nil
}

func side(have, want netstate.State) Side {
	return Side{Desired: want.Sorted(), Observed: have.Sorted(), Plan: netstate.Diff(have, want)}
}
