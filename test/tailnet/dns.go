package tailnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tailscale.com/tailcfg"
	"tailscale.com/types/appctype"
	"tailscale.com/types/dnstype"
)

// appConnectors is the attribute that has the apps of an app connector (tailscale.com/types/appctype.AppConnectorAttr).
const appConnectors tailcfg.NodeCapability = "tailscale.com/app-connectors"

// DNS is the tailnet's DNS configuration beside MagicDNS and what app connectors ask for, which are always on.
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

// dnsConfigLocked is what node n is told.
func (t *Tailnet) dnsConfigLocked(n *node) *tailcfg.DNSConfig {
	c := &tailcfg.DNSConfig{
		Proxied:   true,
		Domains:   append([]string{t.opts.Domain}, t.dns.SearchDomains...),
		Resolvers: resolvers(t.dns.Resolvers),
		Routes:    t.appRoutesLocked(n),
	}
	for domain, rs := range t.dns.SplitRoutes {
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

// appRoutesLocked sends names in the domains of app connectors to these, which resolve them and so learn their routes
// (https://tailscale.com/kb/1332/app-connectors-best-practices, "DNS lookups"). A connector resolves them by itself.
func (t *Tailnet) appRoutesLocked(n *node) map[string][]*dnstype.Resolver {
	routes := map[string][]*dnstype.Resolver{}
	for _, c := range t.nodes {
		server := c.dnsOverPeerAPI()
		if c == n || server == "" || !c.connector() {
			continue
		}
		apps, err := tailcfg.UnmarshalNodeCapJSON[appctype.AppConnectorAttr](t.attrsLocked(c), appConnectors)
		if err != nil {
			t.opts.Logf("attribute %s of %s: %v", appConnectors, c.label, err)
		}
		for _, app := range apps {
			if !slices.ContainsFunc(app.Connectors, func(who string) bool { return who == "*" || slices.Contains(c.tags, who) }) {
				continue
			}
			for _, d := range app.Domains {
				d = strings.TrimPrefix(d, "*.")
				routes[d] = append(routes[d], &dnstype.Resolver{Addr: server})
			}
		}
	}
	return routes
}

// dnsOverPeerAPI is the URL at which exit nodes and app connectors resolve for their peers (handleDNSQuery of
// tailscale.com/ipn/ipnlocal/peerapi.go); "": the node has none.
func (n *node) dnsOverPeerAPI() string {
	if n.hostinfo == nil {
		return ""
	}
	for _, s := range n.hostinfo.Services {
		if s.Proto == tailcfg.PeerAPI4 {
			return fmt.Sprintf("http://%s/dns-query", netip.AddrPortFrom(n.addrs()[0].Addr(), s.Port))
		}
	}
	return ""
}

func resolvers(as []netip.AddrPort) []*dnstype.Resolver {
	var out []*dnstype.Resolver
	for _, a := range slices.Clone(as) {
		out = append(out, &dnstype.Resolver{Addr: a.String()})
	}
	return out
}
