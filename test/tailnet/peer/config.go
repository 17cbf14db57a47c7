package peer

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tailscale.com/net/tsaddr"
)

// Config says what a peer is and does. It travels to the peer's process as JSON.
type Config struct {
	// Name is the hostname on the tailnet, and what the echo services answer with.
	Name string
	// ControlURL is the login server. "": no node at all, only the services: a
	// backend or an internet host.
	ControlURL string
	// AuthKey logs the node in; not needed when StateDir has a login.
	AuthKey string
	// StateDir keeps keys and login; "": a temporary folder, gone with the process.
	StateDir string
	// TUN is the device's name; "": "tailscale0".
	TUN string
	// Port is the WireGuard UDP port; 0: any.
	Port uint16
	// Ephemeral nodes are removed when they log out.
	Ephemeral bool

	// Routes are advertised as a subnet router's.
	Routes []netip.Prefix
	// ExitNode advertises the default routes.
	ExitNode bool
	// Via are advertised as 4via6 routes.
	Via []Via
	// AppConnector advertises the node as one; its domains and preset routes come
	// from the control plane.
	AppConnector bool
	// Resolver is the nameserver in the peer's own resolv.conf(5), which an exit node and an app connector ask for their peers; zero:
	// the machine's. For a peer with a process of its own; see [Start].
	Resolver netip.Addr
	// NoMasquerade forwards from the tailnet with the sender's own address.
	NoMasquerade bool

	// AcceptRoutes uses other routers' subnets.
	AcceptRoutes bool
	// UseExitNode is the name of the exit node to use.
	UseExitNode string
	// Steer are prefixes sent into the TUN beside the tailnet's own, for
	// AcceptRoutes and UseExitNode to see. Default routes are not possible:
	// WireGuard's own packets would follow them.
	Steer []netip.Prefix

	// Socket is the path of a unix socket for Tailscale's LocalAPI; "": none.
	Socket string
	// NoServices leaves the echo services out.
	NoServices bool
	// Verbose logs what the engine says to standard error.
	Verbose bool
}

// Via is a 4via6 route: a v4 prefix behind a site (https://tailscale.com/kb/1201/4via6-subnets).
type Via struct {
	// Site is the site's number, 0 to 65535.
	Site uint32
	// V4 is the prefix there.
	V4 netip.Prefix
}

// Prefix returns the route in IPv6.
func (v Via) Prefix() (netip.Prefix, error) { return tsaddr.MapVia(v.Site, v.V4) }

// Addr returns the IPv6 address that stands for v4 in the site.
func (v Via) Addr(v4 netip.Addr) netip.Addr {
	p, err := tsaddr.MapVia(v.Site, netip.PrefixFrom(v4, 32))
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// ParseVia reads "SITE:PREFIX", as in "7:10.1.0.0/16".
func ParseVia(s string) (Via, error) {
	site, prefix, ok := strings.Cut(s, ":")
	n, err1 := strconv.ParseUint(site, 10, 16)
	p, err2 := netip.ParsePrefix(prefix)
	if !ok || err1 != nil || err2 != nil || !p.Addr().Is4() || p != p.Masked() {
		return Via{}, fmt.Errorf("4via6 route %q: write a site number, a colon and an IPv4 prefix, as in \"7:10.1.0.0/16\"", s)
	}
	return Via{Site: uint32(n), V4: p}, nil
}

// advertised returns all routes that the node is to advertise.
func (c Config) advertised() ([]netip.Prefix, error) {
	out := append([]netip.Prefix(nil), c.Routes...)
	if c.ExitNode {
		out = append(out, tsaddr.AllIPv4(), tsaddr.AllIPv6())
	}
	for _, v := range c.Via {
		p, err := v.Prefix()
		if err != nil {
			return nil, fmt.Errorf("4via6 route of site %d, %v: %w", v.Site, v.V4, err)
		}
		out = append(out, p)
	}
	return out, nil
}
