package stitch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// State of a member.
type State string

// States.
const (
	// Waiting members have no link yet: their gateway is not there, or not everything is known.
	Waiting State = "waiting"
	// Joined members have their link, and all is as wanted.
	Joined State = "joined"
	// Failed members are not as wanted; the work is tried again.
	Failed State = "failed"
	// Left members are members of nothing, and nothing of ours is in them.
	Left State = "left"
)

// Status is a member as the engine last saw it.
type Status struct {
	ID, Name, Group string
	State           State
	// Message is a sentence that says why it is not Joined; "" when it is.
	Message string
	// Slot is the number of its link; 0: it has none.
	Slot int
	// Closed: what keeps its traffic from leaving another way is in place.
	Closed bool
	// Ready: it is joined to a gateway that said that it is ready.
	Ready bool
	// Asked is when the engine was first told of this membership, Joined when it was first in place; zero: not yet.
	Asked, Joined time.Time
	// Found: the link was there already, from an engine before this one.
	Found bool
	// Failures counts the tries that have failed since one did not.
	Failures int
	// Repairs counts the times that somebody else's changes were put right.
	Repairs int
}

// Took is how long it took to join; 0: it has not joined, or was found so.
func (s Status) Took() time.Duration {
	if s.Joined.IsZero() || s.Found {
		return 0
	}
	return s.Joined.Sub(s.Asked)
}

// What [Engine.Wait] and [Engine.Inspect] may say, for errors.Is.
var (
	// ErrUnknown says that there is no member of that ID.
	ErrUnknown = errors.New("the member is not known")
	// ErrClosed says that the engine was closed.
	ErrClosed = errors.New("the engine is closed")
	// ErrOpen says that nothing keeps the member's traffic in yet.
	ErrOpen = errors.New("what keeps the member's traffic in is not in place")
)

// Wait returns when all that was set so far is in place: the member is joined to a gateway that is ready, or has left. When ctx
// ends before that, the error is nil as long as the member is Closed, and the status says how far it came;
// otherwise the error wraps ErrOpen, ctx's and the last try's.
func (e *Engine) Wait(ctx context.Context, id string) (Status, error) {
	return e.wait(ctx, id, func(s Status) bool { return s.State == Left || s.State == Joined && s.Ready })
}

// WaitClosed is as [Engine.Wait], but returns as soon as what the member sends cannot leave another way, or it has left.
func (e *Engine) WaitClosed(ctx context.Context, id string) (Status, error) {
	return e.wait(ctx, id, func(s Status) bool { return s.State == Left || s.Closed })
}

func (e *Engine) wait(ctx context.Context, id string, enough func(Status) bool) (Status, error) {
	for {
		e.mu.Lock()
		m := e.members[id]
		if m == nil {
			e.mu.Unlock()
			return Status{}, fmt.Errorf("wait for member %s: %w", id, ErrUnknown)
		}
		s, err, news := m.status, m.err, m.news
		settled := m.done == m.gen && !m.removed
		e.mu.Unlock()
		if settled && enough(s) {
			return s, nil
		}
		select {
		case <-news:
			continue
		case <-e.ctx.Done():
			return s, fmt.Errorf("wait for member %s: %w", id, ErrClosed)
		case <-ctx.Done():
		}
		if s.Closed {
			return s, nil
		}
		return s, fmt.Errorf("wait for member %s: %w", id, errors.Join(ErrOpen, context.Cause(ctx), err))
	}
}

// GroupReport is a group as the engine sees it.
type GroupReport struct {
	Name string
	// Known: it was set; otherwise only its gateway was.
	Known bool
	// Members and Joined count its members on this node.
	Members, Joined int
	// Overlaps are its routes that meet the cluster's CIDRs.
	Overlaps []Overlap
	// Gateway is nil when there is none.
	Gateway *GatewayReport
}

// GatewayReport is a gateway's namespace.
type GatewayReport struct {
	NetNS NetNS
	// Open: members can be joined to it. Ready: the gateway says that it is ready.
	Open, Ready bool
	// Message says why it is not open; "" when it is.
	Message string
}

// Report is all that the engine knows, without a look at the kernel.
type Report struct {
	Synced  bool
	Members []Status      // by ID
	Groups  []GroupReport // by name
	// Repairs counts what somebody else had changed and was put right, by kind: "link", "address", "neighbour", "route", "rule",
	// "sysctl", "nftables".
	Repairs map[string]int
}

// Snapshot returns the state of everything.
func (e *Engine) Snapshot() Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Report{Synced: e.synced, Repairs: maps.Clone(e.repairs)}
	members, joined := map[string]int{}, map[string]int{}
	for _, m := range e.members {
		r.Members = append(r.Members, m.status)
		members[m.status.Group]++
		if m.status.State == Joined {
			joined[m.status.Group]++
		}
	}
	slices.SortFunc(r.Members, func(a, b Status) int { return strings.Compare(a.ID, b.ID) })
	for _, name := range slices.Sorted(maps.Keys(e.groups)) {
		g := e.groups[name]
		if g.want == nil && g.gw == nil {
			continue
		}
		report := GroupReport{
			Name: name, Known: g.want != nil, Members: members[name], Joined: joined[name],
			Overlaps: slices.Clone(g.steering.overlaps),
		}
		if g.gw != nil {
			report.Gateway = &GatewayReport{NetNS: g.gw.where, Open: g.gw.message == "", Ready: g.ready, Message: g.gw.message}
		}
		r.Groups = append(r.Groups, report)
	}
	return r
}

// Inspect compares what a member is to be with what the kernel holds, and changes nothing. It looks at the kernel at
// once, whatever the engine is doing; what is being changed may show as a difference.
func (e *Engine) Inspect(id string) (joiner.Inspection, error) {
	e.mu.Lock()
	m := e.members[id]
	e.mu.Unlock()
	if m == nil {
		return joiner.Inspection{}, fmt.Errorf("inspect member %s: %w", id, ErrUnknown)
	}
	i := e.intent(m)
	ns, err := pin(i.where)
	if err != nil {
		return joiner.Inspection{}, fmt.Errorf("inspect member %s: %w", id, err)
	}
	var t *joiner.Target
	if i.gw != nil {
		i.gw.mu.RLock()
		defer i.gw.mu.RUnlock()
		t = i.gw.target
		i.spec.Keep.Link = i.spec.Keep.Link || i.gw.state == opening
	}
	in, err := joiner.Inspect(ns.h, t, i.spec)
	switch seen := in.Member.Observed; {
	case i.undecided != "": // what is found is what is to be
		in.Member, in.DesiredTable, in.TableEqual = joiner.Side{Desired: seen, Observed: seen}, in.ObservedTable, true
	case i.leave:
		in.Member = joiner.Side{Observed: seen, Plan: netstate.Diff(seen, netstate.State{})}
		in.DesiredTable, in.TableEqual = "", in.ObservedTable == ""
	}
	return in, errors.Join(err, ns.close())
}
