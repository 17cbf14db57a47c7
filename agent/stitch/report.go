package stitch

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// report makes the outcome of work the member's status. at is the gateway that it is joined to; nil: to none.
func (m *member) report(i intent, at *gateway, r joiner.Result, err error) {
	e := m.e
	var kinds []string
	if err == nil && i.undecided == "" {
		if m.applied.same(i) {
			kinds = repaired(r)
		}
		m.applied = i
	}
	if len(kinds) > 0 && m.ns != nil && m.ns.ending() {
		kinds = nil
	}
	e.mu.Lock()
	m.at = at
	for _, k := range kinds {
		e.repairs[k]++
	}
	m.made = r.Slot != 0 && (m.made || r.Made)
	s := m.status
	if len(kinds) > 0 {
		s.Repairs++
	}
	s.Slot = r.Slot
	if i.undecided == "" {
		s.Closed = r.Closed
	}
	s.Ready = at != nil && i.ready
	s.Message = m.waitsFor(i, at, err)
	s.Failures = 0
	switch {
	case err != nil:
		s.State, s.Failures = Failed, m.status.Failures+1
	case at == nil:
		s.State = Waiting
	default:
		s.State = Joined
		if s.Joined.IsZero() {
			s.Joined, s.Found = time.Now(), !m.made
		}
	}
	m.publish(i, s, err)
	if len(kinds) > 0 {
		e.log.Warn("repaired what somebody else changed", "member", m.id, "pod", s.Name, "kinds", kinds, "what", done(r))
	}
}

// waitsFor says why the member is not joined. The caller holds e.mu.
func (m *member) waitsFor(i intent, at *gateway, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case at != nil:
		return ""
	case i.undecided != "":
		return i.undecided
	case i.gw == nil:
		return fmt.Sprintf("group %s has no gateway on this node yet", m.want.Group)
	case i.gw.message != "":
		return fmt.Sprintf("the gateway of group %s is not there: %s", m.want.Group, i.gw.message)
	}
	return fmt.Sprintf("the gateway of group %s is being prepared", m.want.Group)
}

// left reports that the member is member of nothing, and reports whether it is to be forgotten.
func (m *member) left(i intent, err error) (forgotten bool) {
	e := m.e
	e.mu.Lock()
	at := m.at
	m.at, m.applied = nil, intent{}
	s := m.status
	s.State, s.Message, s.Slot, s.Closed, s.Ready, s.Joined = Left, "", 0, false, false, time.Time{}
	s.Failures = 0
	if err != nil {
		s.Message = err.Error()
		m.gone = m.want.NetNS == i.where
	}
	if m.removed && m.gen == i.gen {
		delete(e.members, m.id)
		forgotten = true
	}
	m.publish(i, s, nil)
	if at != nil && err != nil {
		at.poke() // in case somebody else keeps the namespace, and its link, alive
	}
	return forgotten
}

// publish ends a report: it unlocks e.mu, which the caller holds. What was worked out for an intent that is not the
// newest is not told: the work goes on.
func (m *member) publish(i intent, s Status, err error) {
	e := m.e
	old, oldErr := m.status, m.err
	newest := m.gen == i.gen
	forgotten := e.members[m.id] != m
	if newest {
		m.status, m.err, m.done = s, err, i.gen
		close(m.news)
		m.news = make(chan struct{})
	} else {
		m.status.Slot, m.status.Repairs = s.Slot, s.Repairs
	}
	e.mu.Unlock()
	if !forgotten && (!newest || s == old) {
		return
	}
	switch {
	case s.State == Failed && (oldErr == nil || oldErr.Error() != err.Error()):
		e.log.Error("member is not as wanted; it will be tried again", "member", m.id, "pod", s.Name, "group", s.Group, "err", err)
	case s.State != old.State && err == nil:
		level := slog.LevelInfo
		if s.Group == "" {
			level = slog.LevelDebug // of no group, it was looked through in case it had been of one
		}
		e.log.Log(e.ctx, level, "member", "state", s.State, "member", m.id, "pod", s.Name, "group", s.Group, "why", s.Message, "took", s.Took())
	}
	e.o.Changed(s)
}

// repaired returns the kinds of what was changed. Where the link was made anew all the rest went
// with the old one and does not count.
func repaired(r joiner.Result) []string {
	if r.Made {
		return []string{"link"}
	}
	kinds := planKinds(r.Member, planKinds(r.Gateway, nil))
	if r.Table {
		kinds = append(kinds, "nftables")
	}
	return kinds
}

// done names the first things that were put right; there may be as many as a group has routes.
func done(r joiner.Result) string {
	const most = 4
	ops := slices.Concat(r.Member, r.Gateway)
	var b strings.Builder
	for _, op := range ops[:min(most, len(ops))] {
		fmt.Fprintf(&b, "%s; ", op)
	}
	if more := len(ops) - most; more > 0 {
		fmt.Fprintf(&b, "and %d more", more)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// planKinds adds the kinds of a plan's operations to those seen.
func planKinds(p netstate.Plan, seen []string) []string {
	for _, op := range p {
		seen = addKind(seen, kindOf(op))
	}
	return seen
}

func addKind(seen []string, kind string) []string {
	for _, k := range seen {
		if k == kind {
			return seen
		}
	}
	return append(seen, kind)
}

func kindOf(op netstate.Op) string {
	switch op.(type) {
	case netstate.LinkAdd, netstate.LinkSet, netstate.LinkDel:
		return "link"
	case netstate.AddrAdd, netstate.AddrDel:
		return "address"
	case netstate.NeighSet, netstate.NeighDel:
		return "neighbour"
	case netstate.RouteAdd, netstate.RouteReplace, netstate.RouteDel:
		return "route"
	case netstate.RuleAdd, netstate.RuleDel:
		return "rule"
	}
	return "sysctl"
}
