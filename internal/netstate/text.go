package netstate

import (
	"fmt"
	"net/netip"
	"strings"
)

// String returns the state as sorted text, one object a line, in the words of
// ip(8). States that differ only in order have the same text.
func (s State) String() string {
	s = s.ordered()
	var b strings.Builder
	lines(&b, "link", s.Links)
	lines(&b, "addr", s.Addrs)
	lines(&b, "neigh", s.Neighs)
	lines(&b, "route", s.Routes)
	lines(&b, "rule", s.Rules)
	lines(&b, "sysctl", s.Sysctls)
	return b.String()
}

func lines[T fmt.Stringer](b *strings.Builder, object string, list []T) {
	for _, v := range list {
		fmt.Fprintf(b, "%s %s\n", object, v)
	}
}

// words joins what is worth saying: each pair is a word and its value, and is left
// out when the value is zero.
func words(first string, pairs ...any) string {
	var b strings.Builder
	b.WriteString(first)
	for i := 0; i < len(pairs); i += 2 {
		switch v := pairs[i+1].(type) {
		case string:
			if v == "" {
				continue
			}
		case int:
			if v == 0 {
				continue
			}
		case netip.Addr:
			if !v.IsValid() {
				continue
			}
		}
		fmt.Fprintf(&b, " %v %v", pairs[i], pairs[i+1])
	}
	return b.String()
}

// String returns the link as in "ts0 type veth mtu 1280 up".
func (l Link) String() string {
	state := "down"
	if l.Up {
		state = "up"
	}
	return words(l.Name, "type", string(l.Kind), "alias", quoted(l.Alias), "mtu", l.MTU, "txqueuelen", l.TxQueueLen,
		"address", l.MAC) + " " + state + words("", "peer", l.Peer.Name, "address", l.Peer.MAC)
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}

// String returns the address as in "169.254.64.2/32 dev ts0".
func (a Addr) String() string { return words(a.Prefix.String(), "dev", a.Link) }

// String returns the neighbour as in "169.254.64.1 lladdr 02:74:67:00:00:01 dev ts0".
func (n Neigh) String() string { return words(n.IP.String(), "lladdr", n.MAC, "dev", n.Link) }

// String returns the route as in "unicast 100.64.0.0/10 dev ts0 table 7717 metric 100".
func (r Route) String() string {
	return words(string(r.Type)+" "+r.Dst.String(), "via", r.Via, "dev", r.Link, "src", r.Src,
		"table", r.Table, "metric", r.Metric, "extra", quoted(r.Extra))
}

// String returns the rule as in "v4 priority 7702 lookup 7717".
func (r Rule) String() string {
	var mark, dst string
	if r.Mask != 0 {
		mark = fmt.Sprintf("%#x/%#x", r.Mark, r.Mask)
	}
	if r.Dst.IsValid() {
		dst = r.Dst.String()
	}
	return words(fmt.Sprintf("v%d", r.Family), "priority", r.Priority, "to", dst, "fwmark", mark, "iif", r.Iif,
		"lookup", r.Table, "extra", quoted(r.Extra))
}

// String returns the sysctl as in "net/ipv4/ip_forward = 1".
func (s Sysctl) String() string { return s.Key + " = " + s.Value }
