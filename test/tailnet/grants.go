package tailnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tailscale.com/tailcfg"
)

// Grant allows sources to reach destinations, in the syntax of Tailscale's policy file
// (https://tailscale.com/kb/1324/grants):
//
//   - Src: "*", "tag:x", "autogroup:member" (untagged nodes), "autogroup:tagged", an IP, a
//     CIDR, a node's name.
//   - Dst: the same, and "autogroup:internet", the use of exit nodes. "*" is a node's
//     addresses and all that it routes; a CIDR also reaches into subnets.
//   - IP: "*", "443", "80-90", "tcp:443", "udp:53", "tcp:*", "icmp:*", and a
//     protocol by number. Without a protocol: TCP, UDP and ICMP.
//
// "app" capabilities, groups, users and postures are not known here.
type Grant struct {
	Src []string `json:"src"`
	Dst []string `json:"dst"`
	IP  []string `json:"ip"`
}

// policy is a parsed list of grants.
type policy []rule

type rule struct {
	src, dst []selector
	ports    []ports
}

// selector is one entry of src or dst; exactly one of its fields says what.
type selector struct {
	all, member, tagged, internet bool
	tag, name                     string
	prefix                        netip.Prefix
}

// ports is one entry of ip. No protos: TCP, UDP and ICMP, as tailcfg.FilterRule has it.
type ports struct {
	protos      []int
	first, last uint16
}

// SetGrants replaces the policy; without any grant nobody may talk to anybody.
// A grant that cannot be understood changes nothing.
func (t *Tailnet) SetGrants(grants []Grant) error {
	p, err := parseGrants(grants)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.grants = p
	t.changedLocked()
	return nil
}

func parseGrants(grants []Grant) (policy, error) {
	var out policy
	for i, g := range grants {
		r, err := parseGrant(g)
		if err != nil {
			return nil, fmt.Errorf("grant %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseGrant(g Grant) (rule, error) {
	if len(g.Src) == 0 || len(g.Dst) == 0 || len(g.IP) == 0 {
		return rule{}, fmt.Errorf("src, dst and ip must each have an entry; write \"*\" for any")
	}
	var r rule
	for _, s := range g.Src {
		sel, err := parseSelector(s)
		if err != nil {
			return rule{}, fmt.Errorf("src: %w", err)
		}
		if sel.internet {
			return rule{}, fmt.Errorf("src: autogroup:internet is a destination only")
		}
		r.src = append(r.src, sel)
	}
	for _, s := range g.Dst {
		sel, err := parseSelector(s)
		if err != nil {
			return rule{}, fmt.Errorf("dst: %w", err)
		}
		r.dst = append(r.dst, sel)
	}
	for _, s := range g.IP {
		p, err := parsePorts(s)
		if err != nil {
			return rule{}, fmt.Errorf("ip: %w", err)
		}
		r.ports = append(r.ports, p)
	}
	return r, nil
}

func parseSelector(s string) (selector, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p != p.Masked() {
			return selector{}, fmt.Errorf("%q has bits set behind its length; write %q", s, p.Masked())
		}
		return selector{prefix: p}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return selector{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	kind, rest, hasKind := strings.Cut(s, ":")
	switch {
	case s == "*":
		return selector{all: true}, nil
	case kind == "tag" && hasKind && rest != "" && label(rest) == rest:
		return selector{tag: s}, nil
	case s == "autogroup:member":
		return selector{member: true}, nil
	case s == "autogroup:tagged":
		return selector{tagged: true}, nil
	case s == "autogroup:internet":
		return selector{internet: true}, nil
	case !hasKind && label(s) == s && s != "":
		return selector{name: s}, nil
	}
	return selector{}, fmt.Errorf("%q is none of \"*\", a tag as in \"tag:web\", autogroup:member, autogroup:tagged, "+
		"autogroup:internet, an IP, a CIDR, a node's name", s)
}

// protocols by the names of the policy file; numbers of IANA.
var protocols = map[string][]int{
	"tcp": {6}, "udp": {17}, "icmp": {1, 58}, "sctp": {132}, "gre": {47}, "esp": {50}, "ah": {51}, "igmp": {2},
}

func parsePorts(s string) (ports, error) {
	bad := func() (ports, error) {
		return ports{}, fmt.Errorf("%q is none of \"*\", a port, a range as in \"80-90\", or one of these behind a protocol as in \"tcp:443\"", s)
	}
	p := ports{last: 65535}
	proto, rng, hasProto := strings.Cut(s, ":")
	if !hasProto {
		rng = s
	} else if p.protos = protocols[proto]; p.protos == nil {
		n, err := strconv.ParseUint(proto, 10, 8)
		if err != nil || n == 0 {
			return bad()
		}
		p.protos = []int{int(n)}
	}
	if rng == "*" {
		return p, nil
	}
	lo, hi, isRange := strings.Cut(rng, "-")
	if !isRange {
		hi = lo
	}
	first, err1 := strconv.ParseUint(lo, 10, 16)
	last, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil || first > last {
		return bad()
	}
	if hasProto && slices.Contains(p.protos, 1) {
		return ports{}, fmt.Errorf("%q: ICMP has no ports; write \"icmp:*\"", s)
	}
	p.first, p.last = uint16(first), uint16(last)
	return p, nil
}

func (p ports) rng() tailcfg.PortRange { return tailcfg.PortRange{First: p.first, Last: p.last} }
