package netstate

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// tableMain is RT_TABLE_MAIN: the one table whose IPv4 routes go with their source.
const tableMain = 254

// What the model refuses, as a kernel would.
var (
	errExists = errors.New("is there already")
	errAbsent = errors.New("no such link")
	errDown   = errors.New("link is down")
)

// model is a network namespace, as far as a State tells. A link that it does
// not know is taken to be somebody else's, there and up.
type model struct {
	links   map[string]Link
	onLink  map[string]*onLink
	local   map[netip.Addr]int // links that have the address
	routes  map[routeKey][]Route
	bySrc   map[netip.Addr]map[Route]struct{}
	rules   map[Rule]int
	sysctls map[string]string
}

// onLink is what goes with a link.
type onLink struct {
	addrs  map[netip.Prefix]struct{}
	neighs map[netip.Addr]string
	routes map[Route]struct{}
}

// routeKey is what the kernel tells routes apart by.
type routeKey struct {
	table  int
	dst    netip.Prefix
	metric int
}

func (r Route) key() routeKey { return routeKey{r.Table, r.Dst, r.Metric} }

func newModel(s State) *model {
	s = s.ordered()
	m := &model{
		links:   map[string]Link{},
		onLink:  map[string]*onLink{},
		local:   map[netip.Addr]int{},
		routes:  map[routeKey][]Route{},
		bySrc:   map[netip.Addr]map[Route]struct{}{},
		rules:   map[Rule]int{},
		sysctls: map[string]string{},
	}
	for _, l := range s.Links {
		if _, ok := m.links[l.Name]; !ok {
			m.links[l.Name] = l
		}
	}
	for _, a := range s.Addrs {
		m.putAddr(a)
	}
	for _, n := range s.Neighs {
		if _, ok := m.on(n.Link).neighs[n.IP]; !ok {
			m.on(n.Link).neighs[n.IP] = n.MAC
		}
	}
	for _, r := range s.Routes {
		m.putRoute(r)
	}
	for _, r := range s.Rules {
		m.rules[r]++
	}
	for _, c := range s.Sysctls {
		if _, ok := m.sysctls[c.Key]; !ok {
			m.sysctls[c.Key] = c.Value
		}
	}
	return m
}

func (m *model) state() State {
	s := State{Links: m.linkList(), Addrs: m.addrList(), Neighs: m.neighList(), Routes: m.routeList()}
	for r, n := range m.rules {
		s.Rules = append(s.Rules, slices.Repeat([]Rule{r}, n)...)
	}
	for k, v := range m.sysctls {
		s.Sysctls = append(s.Sysctls, Sysctl{k, v})
	}
	slices.SortFunc(s.Rules, compareRules)
	slices.SortFunc(s.Sysctls, compareSysctls)
	return s
}

func (m *model) linkList() []Link {
	return slices.SortedFunc(maps.Values(m.links), compareLinks)
}

func (m *model) addrList() []Addr {
	var list []Addr
	for name, on := range m.onLink {
		for p := range on.addrs {
			list = append(list, Addr{name, p})
		}
	}
	slices.SortFunc(list, compareAddrs)
	return list
}

func (m *model) neighList() []Neigh {
	var list []Neigh
	for name, on := range m.onLink {
		for ip, mac := range on.neighs {
			list = append(list, Neigh{name, ip, mac})
		}
	}
	slices.SortFunc(list, compareNeighs)
	return list
}

func (m *model) routeList() []Route {
	var list []Route
	for _, same := range m.routes {
		list = append(list, same...)
	}
	slices.SortFunc(list, compareRoutes)
	return list
}

func (m *model) on(link string) *onLink {
	on := m.onLink[link]
	if on == nil {
		on = &onLink{map[netip.Prefix]struct{}{}, map[netip.Addr]string{}, map[Route]struct{}{}}
		m.onLink[link] = on
	}
	return on
}

func (m *model) hasAddr(a Addr) bool {
	_, ok := m.on(a.Link).addrs[a.Prefix]
	return ok
}

func (m *model) putAddr(a Addr) {
	if m.hasAddr(a) {
		return
	}
	m.on(a.Link).addrs[a.Prefix] = struct{}{}
	m.local[a.Prefix.Addr()]++
}

// dropAddr removes an address and what the kernel removes with it.
func (m *model) dropAddr(a Addr) {
	if !m.hasAddr(a) {
		return
	}
	on, ip := m.on(a.Link), a.Prefix.Addr()
	delete(on.addrs, a.Prefix)
	if m.local[ip]--; m.local[ip] == 0 {
		m.dropSource(ip)
	}
	if !ip.Is4() {
		return
	}
	// Secondary addresses go with the primary one of their subnet, unless the
	// promote_secondaries sysctl says otherwise; which is which is not in a State.
	left := false
	for p := range on.addrs {
		if p.Masked() == a.Prefix.Masked() {
			m.dropAddr(Addr{a.Link, p})
		} else if p.Addr().Is4() {
			left = true
		}
	}
	if !left {
		// The last one gone, IPv4 is off on that link (fib_inetaddr_event).
		m.flush(a.Link, netip.Addr.Is4)
	}
}

// dropSource does what happens to routes whose source is no address any more.
func (m *model) dropSource(ip netip.Addr) {
	for r := range maps.Clone(m.bySrc[ip]) {
		switch {
		case ip.Is6(): // fib6_remove_prefsrc clears it, in every table
			m.dropRoute(r)
			r.Src = netip.Addr{}
			m.putRoute(r)
		case r.Table == tableMain: // fib_sync_down_addr looks at no other table
			m.dropRoute(r)
		}
	}
}

// flush removes the neighbours on a link and the routes by it, of one family.
func (m *model) flush(link string, family func(netip.Addr) bool) {
	on := m.on(link)
	for r := range maps.Clone(on.routes) {
		if family(r.Dst.Addr()) {
			for slices.Contains(m.routes[r.key()], r) {
				m.dropRoute(r)
			}
		}
	}
	maps.DeleteFunc(on.neighs, func(ip netip.Addr, _ string) bool { return family(ip) })
}

func (m *model) putRoute(r Route) {
	m.routes[r.key()] = append(m.routes[r.key()], r)
	if r.Link != "" {
		m.on(r.Link).routes[r] = struct{}{}
	}
	if r.Src.IsValid() {
		if m.bySrc[r.Src] == nil {
			m.bySrc[r.Src] = map[Route]struct{}{}
		}
		m.bySrc[r.Src][r] = struct{}{}
	}
}

// dropRoute removes one copy of a route.
func (m *model) dropRoute(r Route) {
	list := m.routes[r.key()]
	i := slices.Index(list, r)
	if i < 0 {
		return
	}
	list = slices.Delete(list, i, i+1)
	m.routes[r.key()] = list
	if len(list) == 0 {
		delete(m.routes, r.key())
	}
	if !slices.Contains(list, r) {
		delete(m.on(r.Link).routes, r)
		delete(m.bySrc[r.Src], r)
	}
}

// ready says why a link cannot take a route.
func (m *model) ready(r Route) error {
	if l, ok := m.links[r.Link]; ok && !l.Up {
		return errDown
	}
	return nil
}

func (o LinkAdd) apply(m *model) error {
	if _, ok := m.links[o.Link.Name]; ok {
		return errExists
	}
	m.links[o.Link.Name] = o.Link
	return nil
}

func (o LinkSet) apply(m *model) error {
	l, ok := m.links[o.Name]
	if !ok {
		return errAbsent
	}
	if o.Alias != "" {
		l.Alias = o.Alias
	}
	if o.MTU != 0 {
		l.MTU = o.MTU
	}
	if o.TxQueueLen != 0 {
		l.TxQueueLen = o.TxQueueLen
	}
	if o.MAC != "" && o.MAC != l.MAC {
		l.MAC = o.MAC
		clear(m.on(o.Name).neighs) // neigh_changeaddr, permanent ones too
	}
	if o.Up {
		l.Up = true
	}
	if o.Down && l.Up {
		l.Up = false
		m.flush(o.Name, netip.Addr.IsValid)
		m.dropAddrs(o.Name, netip.Addr.Is6)
	}
	m.links[o.Name] = l
	return nil
}

func (o LinkDel) apply(m *model) error {
	if _, ok := m.links[o.Name]; !ok {
		return nil
	}
	m.flush(o.Name, netip.Addr.IsValid)
	m.dropAddrs(o.Name, netip.Addr.IsValid)
	delete(m.onLink, o.Name)
	delete(m.links, o.Name)
	maps.DeleteFunc(m.sysctls, func(key, _ string) bool { return sysctlLink(key) == o.Name })
	return nil
}

func (m *model) dropAddrs(link string, family func(netip.Addr) bool) {
	for p := range maps.Clone(m.on(link).addrs) {
		if family(p.Addr()) {
			m.dropAddr(Addr{link, p})
		}
	}
}

func (o AddrAdd) apply(m *model) error {
	if old, ok := m.addrInTheWay(o.Addr); ok {
		return fmt.Errorf("%v %w", old, errExists)
	}
	m.putAddr(o.Addr)
	return nil
}

// addrInTheWay returns the address that keeps a from being added: IPv6 tells the
// addresses of a link apart without their prefix length (ipv6_add_addr).
func (m *model) addrInTheWay(a Addr) (Addr, bool) {
	if a.Prefix.Addr().Is4() {
		return Addr{}, false
	}
	for p := range m.on(a.Link).addrs {
		if p.Addr() == a.Prefix.Addr() && p != a.Prefix {
			return Addr{a.Link, p}, true
		}
	}
	return Addr{}, false
}

func (o AddrDel) apply(m *model) error {
	m.dropAddr(o.Addr)
	return nil
}

func (o NeighSet) apply(m *model) error {
	m.on(o.Neigh.Link).neighs[o.Neigh.IP] = o.Neigh.MAC
	return nil
}

func (o NeighDel) apply(m *model) error {
	delete(m.on(o.Neigh.Link).neighs, o.Neigh.IP)
	return nil
}

func (o RouteAdd) apply(m *model) error {
	list := m.routes[o.Route.key()]
	if slices.Contains(list, o.Route) {
		return nil
	}
	if len(list) > 0 {
		return fmt.Errorf("%v %w", list[0], errExists)
	}
	if err := m.ready(o.Route); err != nil {
		return err
	}
	m.putRoute(o.Route)
	return nil
}

func (o RouteReplace) apply(m *model) error {
	if err := m.ready(o.Route); err != nil {
		return err
	}
	if list := m.routes[o.Route.key()]; len(list) > 0 {
		m.dropRoute(list[0])
	}
	m.putRoute(o.Route)
	return nil
}

func (o RouteDel) apply(m *model) error {
	m.dropRoute(o.Route)
	return nil
}

func (o RuleAdd) apply(m *model) error {
	m.rules[o.Rule] = max(m.rules[o.Rule], 1)
	return nil
}

func (o RuleDel) apply(m *model) error {
	if m.rules[o.Rule]--; m.rules[o.Rule] <= 0 {
		delete(m.rules, o.Rule)
	}
	return nil
}

func (o SysctlSet) apply(m *model) error {
	m.sysctls[o.Sysctl.Key] = o.Sysctl.Value
	return nil
}

// sysctlLink returns the link that a sysctl belongs to and comes and goes with, as
// "ts0" in "net/ipv4/conf/ts0/rp_filter"; "" when it belongs to none.
func sysctlLink(key string) string {
	part := strings.Split(key, "/")
	if len(part) == 5 && part[0] == "net" && (part[2] == "conf" || part[2] == "neigh") &&
		part[3] != "all" && part[3] != "default" {
		return part[3]
	}
	return ""
}
