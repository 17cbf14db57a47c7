package tailnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tailscale.com/net/tsaddr"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// Node is a node as the control plane sees it.
type Node struct {
	// ID is the number, StableID the name that never changes ("n…CNTRL").
	ID       tailcfg.NodeID
	StableID tailcfg.StableNodeID
	// Name is the MagicDNS label, FQDN the whole name without a final dot.
	// Hostname is what the node calls itself.
	Name, FQDN, Hostname string
	// Addresses are its v4 and its v6 tailnet address, in this order.
	Addresses []netip.Addr
	// Tags are sorted; none: owned by the tailnet's user.
	Tags []string
	// Online says whether its map stream is open.
	Online bool
	// Advertised is what the node offers to route, Approved what was approved
	// (advertised or not); what is both is in force.
	Advertised, Approved []netip.Prefix
	// NodeKey is its present WireGuard key, Machine its machine key.
	NodeKey key.NodePublic
	Machine key.MachinePublic
	// Expired says that it must log in again.
	Expired bool
	// Ephemeral nodes are removed when they log out.
	Ephemeral bool
	// Created is its first login, LastSeen its last contact.
	Created, LastSeen time.Time
	// Endpoints are where it listens for WireGuard; HomeDERP is its relay region, 0: none yet.
	Endpoints []netip.AddrPort
	HomeDERP  int
	// Hostinfo is what it said of itself; nil before it did.
	Hostinfo *tailcfg.Hostinfo
}

// node is the state behind a Node. Slices and maps in it are replaced, never changed.
type node struct {
	id        tailcfg.NodeID
	stable    tailcfg.StableNodeID
	label     string
	key       key.NodePublic
	machine   key.MachinePublic
	disco     key.DiscoPublic
	tags      []string
	ephemeral bool
	expired   bool
	created   time.Time
	lastSeen  time.Time
	approved  []netip.Prefix
	attrs     tailcfg.NodeCapMap
	hostinfo  *tailcfg.Hostinfo
	endpoints []netip.AddrPort
	homeDERP  int
	version   tailcfg.CapabilityVersion
	streams   int           // open map streams
	gone      chan struct{} // closed when deleted
}

func (n *node) addrs() []netip.Prefix {
	v4 := netip.AddrFrom4([4]byte{100, 64 + byte(n.id>>16), byte(n.id >> 8), byte(n.id)})
	return []netip.Prefix{netip.PrefixFrom(v4, 32), netip.PrefixFrom(tsaddr.Tailscale4To6(v4), 128)}
}

func (n *node) connector() bool { return n.hostinfo != nil && n.hostinfo.AppConnector.EqualBool(true) }

func (n *node) advertised() []netip.Prefix {
	if n.hostinfo == nil {
		return nil
	}
	return n.hostinfo.RoutableIPs
}

// Nodes returns all nodes, oldest first.
func (t *Tailnet) Nodes() []Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Node, 0, len(t.nodes))
	for _, n := range t.nodes {
		out = append(out, t.viewLocked(n))
	}
	return out
}

// Node returns the node with that name (MagicDNS label or FQDN).
func (t *Tailnet) Node(name string) (Node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byNameLocked(name); n != nil {
		return t.viewLocked(n), true
	}
	return Node{}, false
}

// NodesByTag returns the nodes that have the tag, oldest first.
func (t *Tailnet) NodesByTag(tag string) []Node {
	return slices.DeleteFunc(t.Nodes(), func(n Node) bool { return !slices.Contains(n.Tags, tag) })
}

// DeleteNode removes the node and reports whether there was one. As with the real control plane
// the node itself is told nothing but 404 from now on; peers lose it.
func (t *Tailnet) DeleteNode(id tailcfg.StableNodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byStableLocked(id)
	if n == nil {
		return false
	}
	t.deleteLocked(n)
	return true
}

func (t *Tailnet) deleteLocked(n *node) {
	close(n.gone)
	t.nodes = slices.DeleteFunc(t.nodes, func(o *node) bool { return o == n })
	t.changedLocked()
}

// ExpireNode expires the node's key and reports whether there was one: it must log in
// again, which gives it a new node key and leaves its addresses.
func (t *Tailnet) ExpireNode(id tailcfg.StableNodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byStableLocked(id)
	if n == nil {
		return false
	}
	n.expired = true
	t.changedLocked()
	return true
}

// SetTags makes exactly these the tags of the node and reports whether there was one. All nodes are
// told at once, the node itself too; its key, addresses and connections stay. Its next login by
// auth key gives it that key's tags again.
func (t *Tailnet) SetTags(id tailcfg.StableNodeID, tags ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byStableLocked(id)
	if n == nil {
		return false
	}
	n.tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	t.changedLocked()
	return true
}

// ApproveRoutes makes exactly these the approved routes of the node with that
// name: subnets, 0.0.0.0/0 and ::/0 for an exit node, 4via6 prefixes.
// They need not be advertised yet.
func (t *Tailnet) ApproveRoutes(name string, routes ...netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byNameLocked(name)
	if n == nil {
		return fmt.Errorf("approve routes: no node is called %q", name)
	}
	return t.approveLocked(n, routes)
}

func (t *Tailnet) approveLocked(n *node, routes []netip.Prefix) error {
	for _, p := range routes {
		if p != p.Masked() || !p.IsValid() {
			return fmt.Errorf("approve routes: %v has bits set behind its length; write %v", p, p.Masked())
		}
	}
	n.approved = sortedPrefixes(routes)
	t.changedLocked()
	return nil
}

// SetNodeAttr gives a node an attribute (node capability), with values in JSON;
// peers see it as well, as they do "suggest-exit-node". An app connector's preset
// routes and domains are an attribute "tailscale.com/app-connectors"; names in the domains are asked of it.
func (t *Tailnet) SetNodeAttr(name string, attr tailcfg.NodeCapability, values ...tailcfg.RawMessage) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byNameLocked(name)
	if n == nil {
		return fmt.Errorf("set attribute %q: no node is called %q", attr, name)
	}
	attrs := maps.Clone(n.attrs)
	if attrs == nil {
		attrs = tailcfg.NodeCapMap{}
	}
	attrs[attr] = slices.Clone(values)
	n.attrs = attrs
	t.changedLocked()
	return nil
}

// ClearNodeAttr takes an attribute of [Tailnet.SetNodeAttr] away.
func (t *Tailnet) ClearNodeAttr(name string, attr tailcfg.NodeCapability) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byNameLocked(name)
	if n == nil {
		return fmt.Errorf("clear attribute %q: no node is called %q", attr, name)
	}
	n.attrs = maps.Clone(n.attrs)
	delete(n.attrs, attr)
	t.changedLocked()
	return nil
}

func (t *Tailnet) byNameLocked(name string) *node {
	label := strings.TrimSuffix(strings.TrimSuffix(name, "."), "."+t.opts.Domain)
	return t.findLocked(func(n *node) bool { return n.label == label })
}

func (t *Tailnet) byStableLocked(id tailcfg.StableNodeID) *node {
	return t.findLocked(func(n *node) bool { return n.stable == id })
}

func (t *Tailnet) byKeyLocked(k key.NodePublic) *node {
	return t.findLocked(func(n *node) bool { return !k.IsZero() && n.key == k })
}

func (t *Tailnet) findLocked(match func(*node) bool) *node {
	if i := slices.IndexFunc(t.nodes, match); i >= 0 {
		return t.nodes[i]
	}
	return nil
}

func (t *Tailnet) viewLocked(n *node) Node {
	v := Node{
		ID: n.id, StableID: n.stable, Name: n.label, FQDN: n.label + "." + t.opts.Domain,
		Tags: n.tags, Online: n.streams > 0, Advertised: sortedPrefixes(n.advertised()), Approved: n.approved,
		NodeKey: n.key, Machine: n.machine, Expired: n.expired, Ephemeral: n.ephemeral,
		Created: n.created, LastSeen: n.lastSeen, Endpoints: n.endpoints, HomeDERP: n.homeDERP, Hostinfo: n.hostinfo,
	}
	for _, p := range n.addrs() {
		v.Addresses = append(v.Addresses, p.Addr())
	}
	if n.hostinfo != nil {
		v.Hostname = n.hostinfo.Hostname
	}
	return v
}

// renameLocked gives n the label that its hostname asks for, with a number behind it
// when another node has that already.
func (t *Tailnet) renameLocked(n *node, hostname string) {
	base := label(hostname)
	if n.label == base || strings.HasPrefix(n.label, base+"-") && t.byNameLocked(base) != nil {
		return
	}
	name := base
	for i := 1; ; i++ {
		if o := t.byNameLocked(name); o == nil || o == n {
			break
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
	n.label = name
}

// label makes a DNS label of a hostname.
func label(hostname string) string {
	host, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	host = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host), "-")
	if host == "" {
		return "node"
	}
	return host[:min(len(host), 63)]
}

func sortedPrefixes(ps []netip.Prefix) []netip.Prefix {
	return slices.Compact(slices.SortedFunc(slices.Values(ps), netip.Prefix.Compare))
}
