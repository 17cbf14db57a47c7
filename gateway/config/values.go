package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"tailscale.com/ipn"
	"tailscale.com/util/dnsname"
)

// checkServerURL quotes nothing: a URL may hold a password.
func checkServerURL(c *checker) (Reason, string) {
	s := deref(c.parsed.ServerURL)
	if s == "" {
		return "", ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return InvalidValue, `takes an http or https URL with a host; write one such as "https://controlplane.tailscale.com"`
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return InvalidValue, `takes scheme, host and port only; leave out user, password, "?" and "#"`
	}
	return "", ""
}

func checkAuthKey(c *checker) (Reason, string) {
	key := strings.TrimSpace(deref(c.parsed.AuthKey))
	path, isFile := strings.CutPrefix(key, filePrefix)
	switch {
	case isFile && path == "":
		return InvalidValue, `names no file; write the path behind "file:"`
	case isFile && strings.ContainsRune(path, 0):
		return InvalidValue, `names a file with a zero byte in its path; write the path behind "file:"`
	case !isFile && strings.ContainsFunc(key, notInKey):
		return InvalidValue, `holds something else than one key; write the key alone, or "file:" and a path`
	}
	return "", ""
}

// checkHostname is stricter than the engine, which would quietly change the name.
func checkHostname(c *checker) (Reason, string) {
	name := deref(c.parsed.Hostname)
	if name == "" || dnsname.ValidLabel(name) == nil {
		return "", ""
	}
	return InvalidValue, fmt.Sprintf(`takes a DNS label, and %s is none; write up to 63 letters, digits and hyphens, hyphens only inside, such as "gateway-1"`,
		quote(name, c.secrets))
}

// checkExitNode takes no auto expression but "any": the engine takes every other
// one for "any", too, which for "auto:somewhere" would be another exit than meant.
func checkExitNode(c *checker) (Reason, string) {
	e := ParseExitNode(deref(c.parsed.ExitNode))
	ok := true
	switch e.Kind {
	case ExitNone, ExitIP:
	case ExitAuto:
		ok = e.Auto == ipn.AnyExitNode
	case ExitNamed:
		ok = !strings.ContainsFunc(e.Text, func(r rune) bool {
			return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) && strings.Trim(e.Text, ".") != ""
	}
	if ok {
		return "", ""
	}
	return InvalidValue, fmt.Sprintf(`takes a tailnet IP, a StableNodeID, a MagicDNS name or "auto:any", and %s is none of them`,
		quote(e.Text, c.secrets))
}

func checkAdvertiseRoutes(c *checker) (Reason, string) {
	routes := c.parsed.AdvertiseRoutes
	for _, route := range routes {
		switch {
		case !route.IsValid():
			return InvalidValue, `takes a list of CIDRs, and one of these is empty; write "AdvertiseRoutes": []`
		case route != route.Masked():
			return InvalidValue, fmt.Sprintf("takes network addresses, and %s is none (%s is); remove it, because a gateway advertises no routes: run a Tailscale subnet router instead",
				route, route.Masked())
		}
	}
	return refuse(func(*ipn.ConfigVAlpha) bool { return len(routes) > 0 },
		"a gateway carries pods out to the tailnet and lets nothing in; run a Tailscale subnet router for these routes instead (the Tailscale operator's Connector is one) and remove it")(c)
}

func checkStaticEndpoints(c *checker) (Reason, string) {
	for _, ep := range c.parsed.StaticEndpoints {
		ip := ep.Addr()
		if ep.IsValid() && ep.Port() != 0 && ip.Zone() == "" && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLoopback() && ip != broadcast {
			continue
		}
		what := "the empty string"
		if ep != (netip.AddrPort{}) {
			what = quote(ep.String(), c.secrets)
		}
		return InvalidValue, fmt.Sprintf(`takes addresses and ports that peers can send to, and %s is none; write one such as "198.51.100.1:41641"`, what)
	}
	return "", ""
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
