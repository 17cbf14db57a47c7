package stitch

import "github.com/rajsinghtech/tailgate/agent/joiner"

// check repairs the base state and returns the members whose links here are not as they should be, and
// whether there are links that nobody wants.
func (g *gateway) check() (drifted []string, stale bool, err error) {
	slots, synced := g.e.joinedTo(g)
	g.mu.RLock()
	plan, table, err := g.target.Repair()
	var wrong []int
	var strangers []joiner.Link
	if err == nil {
		wrong, strangers, err = g.target.Check(slots)
	}
	g.mu.RUnlock()
	kinds := planKinds(plan, nil)
	if table {
		kinds = addKind(kinds, "nftables")
	}
	if len(kinds) > 0 {
		g.e.repairedGateway(g, kinds)
	}
	for _, slot := range wrong {
		drifted = append(drifted, slots[slot])
	}
	stale = synced && !g.pruned
	for _, l := range strangers {
		// One without a name is being made just now, or was left half-made by an engine that
		// died, which the first pruning has seen to.
		stale = stale || synced && l.ID != "" && g.e.stale(g, l)
	}
	return drifted, stale, err
}

// prune removes the links of members that are not, or not here any more. No member is joined meanwhile, so
// that what has no name now will not get one.
func (g *gateway) prune() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	links, err := g.target.Links()
	if err != nil {
		return err
	}
	var doomed []joiner.Link
	for _, l := range links {
		if g.e.stale(g, l) {
			doomed = append(doomed, l)
		}
	}
	if err := g.target.Remove(doomed); err != nil {
		return err
	}
	g.pruned = true
	if len(doomed) > 0 {
		g.e.log.Info("removed links of members that are gone", "group", g.group, "links", len(doomed))
	}
	return nil
}

func (e *Engine) pokeMember(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.members[id]; m != nil {
		m.poke()
	}
}

// joinedTo returns the members whose links lead to g, by slot.
func (e *Engine) joinedTo(g *gateway) (slots map[int]string, synced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	slots = make(map[int]string)
	for id, m := range e.members {
		if m.at == g && m.status.Slot != 0 {
			slots[m.status.Slot] = id
		}
	}
	return slots, e.synced
}

// stale reports whether a link at g is nobody's. A member that was not looked at yet may well have it.
func (e *Engine) stale(g *gateway, l joiner.Link) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.members[l.ID]
	switch {
	case m == nil || m.gone:
		return true
	case m.at == nil:
		return false
	}
	return m.at != g || m.status.Slot != l.Slot
}

func (e *Engine) repairedGateway(g *gateway, kinds []string) {
	e.mu.Lock()
	for _, k := range kinds {
		e.repairs[k]++
	}
	e.mu.Unlock()
	e.o.GroupChanged(g.group)
	e.log.Warn("repaired what somebody else changed in a gateway's network namespace", "group", g.group, "kinds", kinds)
}
