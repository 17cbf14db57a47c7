package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"tailscale.com/net/dns"
	"tailscale.com/tailcfg"
	"tailscale.com/types/dnstype"
	"tailscale.com/util/dnsname"
)

func resolvers(addrs ...string) []*dnstype.Resolver {
	var rs []*dnstype.Resolver
	for _, a := range addrs {
		rs = append(rs, &dnstype.Resolver{Addr: a})
	}
	return rs
}

func addrs(s ...string) []netip.Addr {
	var as []netip.Addr
	for _, a := range s {
		as = append(as, netip.MustParseAddr(a))
	}
	return as
}

type routes = map[dnsname.FQDN][]*dnstype.Resolver

func TestClusterDNS(t *testing.T) {
	for _, tt := range []struct {
		name         string
		in, want     *dns.Config
		tailnet      *tailcfg.DNSConfig
		wantTailnets []netip.Addr
	}{
		{name: "none"},
		{
			name: "accepting DNS is off",
			in:   &dns.Config{Routes: routes{"tail.test.": nil}},
			want: &dns.Config{Routes: routes{"tail.test.": nil}},
		},
		{
			name: "MagicDNS and split DNS",
			in:   &dns.Config{AcceptDNS: true, Routes: routes{"tail.test.": nil, "corp.test.": resolvers("100.64.0.3", "fd7a:115c:a1e0::3")}},
			want: &dns.Config{AcceptDNS: true, Routes: routes{
				"tail.test.": nil, "corp.test.": resolvers("100.64.0.3", "fd7a:115c:a1e0::3"), "cluster.local.": resolvers("10.96.0.10"),
			}},
			wantTailnets: addrs("100.64.0.3", "fd7a:115c:a1e0::3"),
		},
		{
			name: "app connectors are asked by their PeerAPI",
			in: &dns.Config{AcceptDNS: true, Routes: routes{
				"app.test.": resolvers("http://100.64.0.6:1/dns-query", "http://[fd7a:115c:a1e0::6]:1/dns-query", "http://name.test:1/dns-query"),
			}},
			want: &dns.Config{AcceptDNS: true, Routes: routes{
				"app.test.":      resolvers("http://100.64.0.6:1/dns-query", "http://[fd7a:115c:a1e0::6]:1/dns-query", "http://name.test:1/dns-query"),
				"cluster.local.": resolvers("10.96.0.10"),
			}},
			wantTailnets: addrs("100.64.0.6", "fd7a:115c:a1e0::6"),
		},
		{
			name: "an exit node's proxy is no resolver",
			in:   &dns.Config{AcceptDNS: true, DefaultResolvers: resolvers("http://100.64.0.9:1234/dns-query")},
			want: &dns.Config{AcceptDNS: true, Routes: routes{"cluster.local.": resolvers("10.96.0.10")}},
		},
		{
			name: "what the exit node's proxy displaced comes back",
			in: &dns.Config{
				AcceptDNS: true, DefaultResolvers: resolvers("http://100.64.0.9:1234/dns-query"),
				Routes: routes{"kept.test.": resolvers("100.64.0.8")},
			},
			tailnet: &tailcfg.DNSConfig{
				Resolvers: resolvers("9.9.9.9"),
				Routes: map[string][]*dnstype.Resolver{
					"corp.test": resolvers("100.64.0.3"), "kept.test": resolvers("100.64.0.7"), "app.test": resolvers("http://100.64.0.6:1/dns-query"),
				},
			},
			want: &dns.Config{AcceptDNS: true, DefaultResolvers: resolvers("9.9.9.9"), Routes: routes{
				"corp.test.": resolvers("100.64.0.3"), "kept.test.": resolvers("100.64.0.8"), "cluster.local.": resolvers("10.96.0.10"),
				"app.test.": resolvers("http://100.64.0.6:1/dns-query"),
			}},
			wantTailnets: addrs("9.9.9.9", "100.64.0.3", "100.64.0.6", "100.64.0.8"),
		},
		{
			name: "the administrator's global nameservers stay",
			in:   &dns.Config{AcceptDNS: true, DefaultResolvers: resolvers("9.9.9.9", "https://dns.example/dns-query")},
			want: &dns.Config{
				AcceptDNS: true, DefaultResolvers: resolvers("9.9.9.9", "https://dns.example/dns-query"),
				Routes: routes{"cluster.local.": resolvers("10.96.0.10")},
			},
			wantTailnets: addrs("9.9.9.9"),
		},
		{
			name:         "the administrator's route for the cluster's domain stays",
			in:           &dns.Config{AcceptDNS: true, Routes: routes{"cluster.local.": resolvers("100.64.0.7")}},
			want:         &dns.Config{AcceptDNS: true, Routes: routes{"cluster.local.": resolvers("100.64.0.7")}},
			wantTailnets: addrs("100.64.0.7"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster := clusterDNS{
				nameservers: addrs("10.96.0.10"), domains: []dnsname.FQDN{"cluster.local."},
				tailnet: func() *tailcfg.DNSConfig { return tt.tailnet },
			}
			before := tt.in.Clone()
			got := cluster.adjust(tt.in)
			opts := []cmp.Option{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreUnexported(dns.Config{})}
			if diff := cmp.Diff(tt.want, got, opts...); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.in, opts...); diff != "" {
				t.Errorf("the engine's own value changed:\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantTailnets, cluster.tailnets(got), opts...); diff != "" {
				t.Errorf("nameservers on the tailnet (-want +got)\n%s", diff)
			}
		})
	}
}

func TestSystemResolvers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if got, err := SystemResolvers(file); err != nil || len(got) > 0 {
		t.Errorf("absent file: %v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("search a.test\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := SystemResolvers(file)
	if diff := cmp.Diff(addrs("10.96.0.10", "fd00:10:96::a"), got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
