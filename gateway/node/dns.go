package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"tailscale.com/net/dns"
	"tailscale.com/net/dns/resolvconffile"
	"tailscale.com/tailcfg"
	"tailscale.com/types/dnstype"
	"tailscale.com/util/dnsname"
)

// resolvconf tells Tailscale's resolver at 100.100.100.100 what the operating system
// would use without it: the cluster's resolver. Nothing is ever written, because
// nobody but members asks.
type resolvconf struct {
	nameservers []netip.Addr
}

func (resolvconf) SetDNS(dns.OSConfig) error { return nil }

// SupportsSplitDNS is false so that Tailscale's resolver takes every name, and forwards
// those that the tailnet says nothing of to the base configuration.
func (resolvconf) SupportsSplitDNS() bool { return false }

func (r resolvconf) GetBaseConfig() (dns.OSConfig, error) {
	if len(r.nameservers) == 0 {
		return dns.OSConfig{}, dns.ErrGetBaseConfigNotSupported
	}
	return dns.OSConfig{Nameservers: r.nameservers}, nil
}

func (resolvconf) Close() error { return nil }

// clusterDNS adjusts what the engine makes of the tailnet's DNS to a cluster's needs:
//
//   - the cluster's domains go to the cluster's resolver, whatever the tailnet's
//     global nameservers are: they exist nowhere else;
//   - an exit node is not made the resolver of all names in place of the tailnet's nameservers,
//     as Tailscale does for a person's laptop in a café: a name must not change its meaning, or
//     stop resolving, with the exit node.
//
// A tailnet's global nameservers stay in force for all other names.
type clusterDNS struct {
	nameservers []netip.Addr
	domains     []dnsname.FQDN
	// tailnet returns the DNS of the netmap; nil when there is none.
	tailnet func() *tailcfg.DNSConfig
}

func (c clusterDNS) adjust(cfg *dns.Config) *dns.Config {
	if cfg == nil || !cfg.AcceptDNS || len(c.nameservers) == 0 {
		return cfg
	}
	out := cfg.Clone()
	if out.Routes == nil {
		out.Routes = make(map[dnsname.FQDN][]*dnstype.Resolver)
	}
	if slices.ContainsFunc(out.DefaultResolvers, exitNodeProxy) {
		c.undoExitNode(out)
	}
	resolvers := make([]*dnstype.Resolver, 0, len(c.nameservers))
	for _, ns := range c.nameservers {
		resolvers = append(resolvers, &dnstype.Resolver{Addr: ns.String()})
	}
	for _, d := range c.domains {
		if _, ok := out.Routes[d]; !ok { // the tailnet's administrator may know better
			out.Routes[d] = resolvers
		}
	}
	return out
}

// undoExitNode puts back the nameservers that the engine left out in favour of the exit
// node's proxy (ipn/ipnlocal, dnsConfigForNetmap).
func (c clusterDNS) undoExitNode(cfg *dns.Config) {
	cfg.DefaultResolvers = slices.DeleteFunc(cfg.DefaultResolvers, exitNodeProxy)
	t := c.tailnet()
	if t == nil {
		t = new(tailcfg.DNSConfig)
	}
	if len(cfg.DefaultResolvers) == 0 {
		cfg.DefaultResolvers = t.Resolvers
	}
	for suffix, rs := range t.Routes {
		fqdn, err := dnsname.ToFQDN(suffix)
		if err != nil {
			continue // the engine has said so
		}
		if _, ok := cfg.Routes[fqdn]; !ok {
			cfg.Routes[fqdn] = rs
		}
	}
}

// exitNodeProxy reports whether r, which is for all names, is an exit node's DNS proxy: plain HTTP, which a
// nameserver that an administrator configures never is (Tailscale's ipn/ipnlocal, exitNodeCanProxyDNS).
func exitNodeProxy(r *dnstype.Resolver) bool { return strings.HasPrefix(r.Addr, "http://") }

// tailnets returns the nameservers in cfg that are not the cluster's.
func (c clusterDNS) tailnets(cfg *dns.Config) []netip.Addr {
	if cfg == nil {
		return nil
	}
	lists := slices.Collect(maps.Values(cfg.Routes))
	var as []netip.Addr
	for _, r := range slices.Concat(append(lists, cfg.DefaultResolvers)...) {
		if a, ok := server(r); ok && !slices.Contains(c.nameservers, a) {
			as = append(as, a)
		}
	}
	slices.SortFunc(as, netip.Addr.Compare)
	return slices.Compact(as)
}

// server returns the address at which r is asked; not ok: it has none, only a name.
func server(r *dnstype.Resolver) (_ netip.Addr, ok bool) {
	if ap, ok := r.IPPort(); ok {
		return ap.Addr(), true
	}
	// An app connector is asked about its domains by its PeerAPI.
	u, err := url.Parse(r.Addr)
	if err != nil || u.Scheme != "http" {
		return netip.Addr{}, false
	}
	ap, err := netip.ParseAddrPort(u.Host)
	return ap.Addr(), err == nil
}

// SystemResolvers returns the nameservers of a resolv.conf (resolv.conf(5)); a file that is absent names none.
func SystemResolvers(file string) ([]netip.Addr, error) {
	c, err := resolvconffile.ParseFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	return c.Nameservers, nil
}
