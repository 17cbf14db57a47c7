package ruleset

import (
	"fmt"
	"net/netip"
	"strings"
)

// String writes the table as nft does, one line for each kernel rule, and the same
// for equal tables: `nft -f` accepts what it prints unless something is Unknown.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", t.Name)
	for _, u := range t.Unknown {
		fmt.Fprintf(&b, "\tunknown: %s\n", u)
	}
	for i, c := range t.Chains {
		if i > 0 {
			b.WriteString("\n")
		}
		c.write(&b)
	}
	b.WriteString("}\n")
	return b.String()
}

func (c Chain) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Unknown != "" {
		fmt.Fprintf(b, "\t\tunknown: %s\n", c.Unknown)
	} else {
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %d; policy %s;\n", c.Type, c.Hook, c.Priority, c.Policy)
	}
	for _, f := range flattenAll(c.Rules) {
		fmt.Fprintf(b, "\t\t%s\n", f)
	}
	b.WriteString("\t}\n")
}

// String writes the rule as nft does, a line for each kernel rule that it makes.
func (r Rule) String() string {
	var lines []string
	for _, f := range flatten(r) {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

func (f flat) String() string {
	var words []string
	if f.unknown != "" {
		words = append(words, "unknown: "+f.unknown)
	} else {
		words = f.words()
	}
	if f.comment != "" {
		words = append(words, fmt.Sprintf("comment %q", f.comment))
	}
	return strings.Join(words, " ")
}

func (f flat) words() []string {
	var words []string
	if f.family != "" && !f.impliesFamily() {
		words = append(words, "meta nfproto "+string(f.family))
	}
	for _, m := range f.matches {
		words = append(words, m.text())
	}
	if f.counter {
		words = append(words, "counter")
	}
	if a := f.action.text(); a != "" {
		words = append(words, a)
	}
	return words
}

// impliesFamily: nft itself puts the family before an address match.
func (f flat) impliesFamily() bool {
	for _, m := range f.matches {
		if m.isList() {
			return true
		}
	}
	return false
}

func (m Match) text() string {
	not := ""
	if m.Not {
		not = "!= "
	}
	switch m.Kind {
	case kindIif, kindOif:
		star := ""
		if m.Prefix {
			star = "*"
		}
		return fmt.Sprintf(`%s %s"%s%s"`, m.Kind, not, m.Link, star)
	case kindMark, kindCTMark:
		return markText(m)
	case kindCTState:
		if m.Not {
			return fmt.Sprintf("ct state & (%s) == 0", m.States.text(" | "))
		}
		return "ct state " + m.States.text(",")
	case kindSrc, kindDst:
		return fmt.Sprintf("%s %s %s%s", ipKeyword(m.Addrs[0].Addr()), m.Kind, not, listText(m.Addrs))
	case kindL4Proto:
		return fmt.Sprintf("meta l4proto %s%s", not, m.Proto)
	case kindSyn:
		if m.Not {
			return "tcp flags & (syn | rst) != syn"
		}
		return "tcp flags & (syn | rst) == syn"
	case kindDstPort:
		return fmt.Sprintf("%s dport %s%d", m.Proto, not, m.Port)
	case kindLocal:
		return fmt.Sprintf("fib daddr type %slocal", not)
	}
	return fmt.Sprintf("unknown: match %q", m.Kind)
}

func markText(m Match) string {
	op := "=="
	if m.Not {
		op = "!="
	}
	if m.Mask == ^uint32(0) {
		return fmt.Sprintf("%s %s 0x%08x", m.Kind, op, m.Value)
	}
	return fmt.Sprintf("%s & 0x%08x %s 0x%08x", m.Kind, m.Mask, op, m.Value)
}

func listText(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
		if p.IsSingleIP() {
			words[i] = p.Addr().String()
		}
	}
	if len(words) == 1 {
		return words[0]
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

func ipKeyword(a netip.Addr) string {
	if familyOf(a) == V4 {
		return "ip"
	}
	return "ip6"
}

// String returns the protocol's name in nft, or its number.
func (p Proto) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	}
	return fmt.Sprintf("%d", uint8(p))
}

// stateNames are in nft's order; together they are every state there is.
func stateNames() []struct {
	state State
	name  string
} {
	return []struct {
		state State
		name  string
	}{
		{StateInvalid, "invalid"}, {StateEstablished, "established"}, {StateRelated, "related"},
		{StateNew, "new"}, {StateUntracked, "untracked"},
	}
}

func (s State) text(sep string) string {
	var words []string
	for _, n := range stateNames() {
		if s&n.state != 0 {
			words = append(words, n.name)
		}
	}
	return strings.Join(words, sep)
}

func (a Action) text() string {
	switch a.Kind {
	case kindNothing:
		return ""
	case kindAccept, kindDrop, kindReturn, kindMasquerade:
		return string(a.Kind)
	case kindReject:
		return "reject with icmpx admin-prohibited"
	case kindSetMark:
		return setText("meta mark", a)
	case kindSetCTMark:
		return setText("ct mark", a)
	case kindClampMSS:
		return "tcp option maxseg size set rt mtu"
	case kindDNAT:
		to := a.To.String()
		if a.To.Port() == 0 {
			to = a.To.Addr().String()
		}
		return fmt.Sprintf("dnat %s to %s", ipKeyword(a.To.Addr()), to)
	}
	return fmt.Sprintf("unknown: action %q", a.Kind)
}

func setText(key string, a Action) string {
	if a.Mask == ^uint32(0) {
		return fmt.Sprintf("%s set 0x%08x", key, a.Value)
	}
	return fmt.Sprintf("%s set %s & 0x%08x | 0x%08x", key, key, ^a.Mask, a.Value)
}
