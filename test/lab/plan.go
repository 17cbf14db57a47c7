package lab

import (
	"fmt"
	"net/netip"
)

// maxLabs is how many address plans there are.
const maxLabs = 10

// Plan is who has which address in a lab. Plans of different numbers do not overlap, so that
// labs can be connected. IPv4 comes first where there are two families.
type Plan struct {
	// Number is from 0 to 9.
	Number int
	// NodeNets are those that nodes share with the control plane and attached hosts.
	NodeNets []netip.Prefix
	// ControlPlane is the API server on them; it routes for everyone.
	ControlPlane []netip.Addr
	// PodNets and ServiceNets are the cluster's.
	PodNets, ServiceNets []netip.Prefix
	// API is the address of the Service kubernetes, which has one of the first family only.
	API netip.Addr
	// DNS are the addresses of the Service kube-dns.
	DNS []netip.Addr
	// Nodes are the nodes.
	Nodes []NodePlan
}

// NodePlan is the part of a node.
type NodePlan struct {
	Name string
	// Addrs are its addresses in NodeNets.
	Addrs []netip.Addr
	// PodNets are what its pods have their addresses from.
	PodNets []netip.Prefix
}

// Bits of the networks of a node's pods. A node of 250 pods needs more than a /24.
const (
	podBits4 = 23
	podBits6 = 64
)

// Places in the node network.
const (
	firstNode = 11  // n1
	firstHost = 100 // the first host that is attached
	lastHost  = 250
)

// NewPlan returns the plan of a lab.
func NewPlan(number, nodes int, family Family) (Plan, error) {
	if number < 0 || number >= maxLabs {
		return Plan{}, fmt.Errorf("there is no address plan %d: they are 0 to %d", number, maxLabs-1)
	}
	p := Plan{Number: number}
	for range nodes {
		p.Nodes = append(p.Nodes, NodePlan{Name: nodeName(len(p.Nodes))})
	}
	if family != V6 {
		p.add(
			netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(70 + number), 0}), 24),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(244 + number), 0, 0}), 16),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, byte(16 * number), 0}), 20), podBits4)
	}
	if family != V4 {
		p.add(
			netip.MustParsePrefix(fmt.Sprintf("fd00:168:%d::/64", 70+number)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:10:%d::/56", 244+number)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:10:96:%d::/112", number)), podBits6)
	}
	return p, nil
}

// nodeName names a node, from 0.
func nodeName(i int) string { return fmt.Sprintf("n%d", i+1) }

// add adds a family.
func (p *Plan) add(nodes, pods, services netip.Prefix, podBits int) {
	p.NodeNets = append(p.NodeNets, nodes)
	p.PodNets = append(p.PodNets, pods)
	p.ServiceNets = append(p.ServiceNets, services)
	p.ControlPlane = append(p.ControlPlane, place(nodes, 1))
	if !p.API.IsValid() {
		p.API = nth(services, 1)
	}
	p.DNS = append(p.DNS, nth(services, 10))
	for i := range p.Nodes {
		n := &p.Nodes[i]
		n.Addrs = append(n.Addrs, place(nodes, firstNode+i))
		n.PodNets = append(n.PodNets, subnet(pods, podBits, i))
	}
}

// Node returns the part of a node, or nil.
func (p *Plan) Node(name string) *NodePlan {
	for i := range p.Nodes {
		if p.Nodes[i].Name == name {
			return &p.Nodes[i]
		}
	}
	return nil
}

// Host returns the addresses of the nth place for an attached host, n from 0, and whether there is one.
func (p *Plan) Host(n int) ([]netip.Addr, bool) {
	if n < 0 || firstHost+n > lastHost {
		return nil, false
	}
	var all []netip.Addr
	for _, net := range p.NodeNets {
		all = append(all, place(net, firstHost+n))
	}
	return all, true
}

// onNet gives addresses in the node networks, one a family, the length of these.
func (p *Plan) onNet(addrs []netip.Addr) []netip.Prefix {
	var all []netip.Prefix
	for i, a := range addrs {
		all = append(all, netip.PrefixFrom(a, p.NodeNets[i].Bits()))
	}
	return all
}

// place returns an address in a node network: in both families it ends in the same digits, so ::11 goes
// with .11.
func place(p netip.Prefix, n int) netip.Addr {
	if p.Addr().Is4() {
		return nth(p, n)
	}
	b := p.Masked().Addr().As16()
	b[14], b[15] = byte(n/100), byte(n/10%10<<4|n%10)
	return netip.AddrFrom16(b)
}

// nth returns the nth address of p, n below 256.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] += byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// subnet returns the nth network of that length in p.
func subnet(p netip.Prefix, bits, n int) netip.Prefix {
	b := p.Masked().Addr().AsSlice()
	for i := bits - 1; n > 0; i-- { // bit i counts from the left
		b[i/8] |= byte(n&1) << (7 - i%8)
		n >>= 1
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}
