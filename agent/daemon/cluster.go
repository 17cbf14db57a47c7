package daemon

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// What stays on the pods' own interface: the addresses of pods and services, as given or as found, and those of nodes in any
// case, for nodes come and go.

func (d *Daemon) setNode(n *corev1.Node) {
	var own []netip.Prefix
	if len(d.o.ClusterCIDRs) == 0 {
		own = parsePrefixes(append(slices.Clone(n.Spec.PodCIDRs), n.Spec.PodCIDR))
	}
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.nodes[n.Name], own) {
		d.nodes[n.Name] = own
		d.tellCIDRs()
	}
}

func (d *Daemon) nodeGone(n *corev1.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, n.Name)
	d.tellCIDRs()
}

func (d *Daemon) setServiceCIDR(s *networkingv1.ServiceCIDR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services[s.Name] = parsePrefixes(s.Spec.CIDRs)
	d.tellCIDRs()
}

func (d *Daemon) serviceCIDRGone(s *networkingv1.ServiceCIDR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.services, s.Name)
	d.tellCIDRs()
}

// tellCIDRs tells the engine what stays direct. The caller holds d.mu.
func (d *Daemon) tellCIDRs() {
	if !d.started {
		return
	}
	all := slices.Clone(d.o.ClusterCIDRs)
	for _, m := range []map[string][]netip.Prefix{d.nodes, d.services} {
		for _, ps := range m {
			all = append(all, ps...)
		}
	}
	slices.SortFunc(all, comparePrefixes)
	d.cidrs = slices.Compact(all)
	d.engine.SetClusterCIDRs(d.cidrs)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// parsePrefixes leaves out what is not a prefix; the API server has checked them.
func parsePrefixes(texts []string) []netip.Prefix {
	var ps []netip.Prefix
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			ps = append(ps, p.Masked())
		}
	}
	slices.SortFunc(ps, comparePrefixes)
	return slices.Compact(ps)
}
