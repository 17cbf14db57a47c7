package netstate

import (
	"maps"
	"slices"
)

// maxPasses bounds Diff: one pass adds and removes, a second puts back what the
// kernel took along, a third would find nothing.
const maxPasses = 3

// Diff returns what must be done to get from have to want. It adds before it removes
// wherever the kernel's keys allow: sysctls, links (and the sysctls that come with
// them), addresses, neighbours, routes and rules are added or changed in that
// order, fallback routes before what they back; then rules, routes, neighbours,
// addresses and links are removed. A route that differs from a wanted one
// of its key is replaced. Existing links are never deleted, and what want
// says nothing of (a link attribute's zero value, a sysctl) is left alone.
//
// Nothing about a Veth asks for a new one: the kernel changes all that a Link says
// while the link is in use, and of the peer it tells nothing to compare.
//
// When want asks for what no plan can bring (an Existing link that is not there, a
// Veth in the place of somebody else's link), the plan says so all the same
// and fails there when it is applied.
func Diff(have, want State) Plan {
	d := &differ{m: newModel(have), want: newModel(want)}
	d.list = d.want.state()
	for range maxPasses {
		before := len(d.plan)
		d.pass()
		if len(d.plan) == before {
			break
		}
	}
	return d.plan
}

// differ writes a plan while it keeps a model of what the plan has brought so far.
type differ struct {
	m    *model // where the plan so far leads
	want *model
	list State // want, in order
	plan Plan
}

func (d *differ) do(op Op) {
	d.plan = append(d.plan, op)
	if op.apply(d.m) == nil {
		return
	}
	// What only the kernel can refuse is taken to have worked, so that the rest
	// of the plan is the one for when it does.
	switch o := op.(type) {
	case LinkAdd:
		d.m.links[o.Link.Name] = o.Link
	case LinkSet:
		d.m.links[o.Name] = d.want.links[o.Name]
	}
}

func (d *differ) pass() {
	d.setSysctls(func(link string) bool { return link == "" })
	d.setLinks()
	d.setSysctls(func(link string) bool { return link != "" })
	d.addAddrs()
	d.setNeighs()
	found := d.m.routeList()
	d.setRoutes()
	d.addRules()

	d.removeRules()
	d.removeRoutes(found)
	d.removeNeighs(d.m.neighList())
	d.removeAddrs(d.m.addrList())
	d.removeLinks(d.m.linkList())
}

func (d *differ) setSysctls(which func(link string) bool) {
	for _, s := range d.list.Sysctls {
		if v, ok := d.m.sysctls[s.Key]; which(sysctlLink(s.Key)) && (!ok || v != s.Value) {
			d.do(SysctlSet{s})
		}
	}
}

func (d *differ) setLinks() {
	for _, want := range d.list.Links {
		have, ok := d.m.links[want.Name]
		if want.Kind == Veth && (!ok || have.Kind != Veth) {
			d.do(LinkAdd{want})
			continue
		}
		if set := changes(have, want); !ok || set != (LinkSet{Name: want.Name}) {
			d.do(set)
		}
	}
}

// changes returns what must be set for have to become want.
func changes(have, want Link) LinkSet {
	set := LinkSet{Name: want.Name}
	if want.Alias != have.Alias {
		set.Alias = want.Alias
	}
	if want.MTU != have.MTU {
		set.MTU = want.MTU
	}
	if want.TxQueueLen != have.TxQueueLen {
		set.TxQueueLen = want.TxQueueLen
	}
	if want.MAC != have.MAC {
		set.MAC = want.MAC
	}
	set.Up = want.Up && !have.Up
	set.Down = want.Kind == Veth && !want.Up && have.Up
	return set
}

func (d *differ) addAddrs() {
	for _, a := range d.list.Addrs {
		if d.m.hasAddr(a) {
			continue
		}
		if old, ok := d.m.addrInTheWay(a); ok {
			d.do(AddrDel{old})
		}
		d.do(AddrAdd{a})
	}
}

func (d *differ) setNeighs() {
	for _, n := range d.list.Neighs {
		if mac, ok := d.m.on(n.Link).neighs[n.IP]; !ok || mac != n.MAC {
			d.do(NeighSet{n})
		}
	}
}

func (d *differ) setRoutes() {
	for _, r := range slices.Backward(d.list.Routes) {
		if !d.wants(r) {
			continue // the second of two that cannot both be
		}
		list := d.m.routes[r.key()]
		switch {
		case slices.Contains(list, r):
		case len(list) == 0:
			d.do(RouteAdd{r})
		default:
			d.do(RouteReplace{r})
		}
	}
}

func (d *differ) addRules() {
	for _, r := range d.list.Rules {
		if d.m.rules[r] == 0 {
			d.do(RuleAdd{r})
		}
	}
}

func (d *differ) removeRules() {
	for _, r := range slices.Backward(slices.SortedFunc(maps.Keys(d.m.rules), compareRules)) {
		keep := min(d.want.rules[r], 1)
		for range d.m.rules[r] - keep {
			d.do(RuleDel{r})
		}
	}
}

// removeRoutes removes the routes found that are not wanted, except those that
// were replaced and those that go with their link.
//
// A key that held several routes (which only others can bring about) needs care: a
// replacement took the place of one, nobody knows which, and a deletion takes
// whatever has all that it names. So every unwanted one is named, and at
// the end the wanted one is put in its place once more.
func (d *differ) removeRoutes(found []Route) {
	crowd := map[routeKey]int{}
	for _, r := range found {
		crowd[r.key()]++
	}
	kept, restore := map[routeKey]bool{}, map[routeKey]bool{}
	for _, r := range found {
		key := r.key()
		if d.wants(r) && !kept[key] {
			kept[key] = true
			continue
		}
		if crowd[key] > 1 {
			restore[key] = true
		} else if d.doomed(r.Link) || !slices.Contains(d.m.routes[key], r) {
			continue
		}
		d.do(RouteDel{r})
	}
	for _, r := range d.list.Routes {
		if restore[r.key()] && d.wants(r) {
			d.do(RouteReplace{r})
		}
	}
}

// wants says that r is the wanted route of its key.
func (d *differ) wants(r Route) bool {
	list := d.want.routes[r.key()]
	return len(list) > 0 && list[0] == r
}

func (d *differ) removeNeighs(have []Neigh) {
	for _, n := range slices.Backward(have) {
		if _, ok := d.want.on(n.Link).neighs[n.IP]; !ok && !d.doomed(n.Link) {
			d.do(NeighDel{n})
		}
	}
}

func (d *differ) removeAddrs(have []Addr) {
	for _, a := range slices.Backward(have) {
		if !d.want.hasAddr(a) && !d.doomed(a.Link) {
			d.do(AddrDel{a})
		}
	}
}

func (d *differ) removeLinks(have []Link) {
	for _, l := range slices.Backward(have) {
		if d.doomed(l.Name) {
			d.do(LinkDel{l.Name})
		}
	}
}

// doomed says that a link is ours and not wanted: what is on it goes with it.
func (d *differ) doomed(link string) bool {
	have, ok := d.m.links[link]
	_, wanted := d.want.links[link]
	return ok && have.Kind == Veth && !wanted
}
