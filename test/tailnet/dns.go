package tailnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tailscale.com/tailcfg"
	"tailscale.com/types/dnstype"
)

// DNS is the tailnet's DNS configuration beside MagicDNS, which is always on.
type DNS struct {
	// SplitRoutes sends names in a domain to the resolvers of that domain.
	SplitRoutes map[string][]netip.AddrPort
	// Resolvers are for every other name; none: what the node had.
	Resolvers []netip.AddrPort
	// ExtraRecords are answered by the nodes themselves.
	ExtraRecords []Record
	// SearchDomains follow the MagicDNS domain.
	SearchDomains []string
}

// Record is a name and its address.
type Record struct {
	Name string
	Addr netip.Addr
}

// SetDNS replaces the DNS configuration of all nodes.
func (t *Tailnet) SetDNS(d DNS) error {
	for domain, rs := range d.SplitRoutes {
		if domain == "" || strings.HasPrefix(domain, ".") {
			return fmt.Errorf("split DNS domain %q: write it without a leading dot, as in \"corp.example\"", domain)
		}
		if len(rs) == 0 {
			return fmt.Errorf("split DNS domain %q has no resolver", domain)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dns = d
	t.changedLocked()
	return nil
}

func (t *Tailnet) dnsConfigLocked() *tailcfg.DNSConfig {
	c := &tailcfg.DNSConfig{
		Proxied:   true,
		Domains:   append([]string{t.opts.Domain}, t.dns.SearchDomains...),
		Resolvers: resolvers(t.dns.Resolvers),
	}
	for domain, rs := range t.dns.SplitRoutes {
		if c.Routes == nil {
			c.Routes = map[string][]*dnstype.Resolver{}
		}
		c.Routes[strings.TrimSuffix(domain, ".")] = resolvers(rs)
	}
	for _, r := range t.dns.ExtraRecords {
		rec := tailcfg.DNSRecord{Name: strings.TrimSuffix(r.Name, "."), Value: r.Addr.String()}
		if r.Addr.Is6() {
			rec.Type = "AAAA"
		}
		c.ExtraRecords = append(c.ExtraRecords, rec)
	}
	return c
}

func resolvers(as []netip.AddrPort) []*dnstype.Resolver {
	var out []*dnstype.Resolver
	for _, a := range slices.Clone(as) {
		out = append(out, &dnstype.Resolver{Addr: a.String()})
	}
	return out
}
