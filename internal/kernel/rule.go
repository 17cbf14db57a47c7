//go:build linux

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

// fibRuleHdr is struct fib_rule_hdr (linux/fib_rules.h), which unix lacks.
type fibRuleHdr struct {
	Family, DstLen, SrcLen, Tos, Table, Res1, Res2, Action uint8
	Flags                                                  uint32
}

const (
	actionToTable = 1 // FR_ACT_TO_TBL
	flagInvert    = 2 // FIB_RULE_INVERT; the other flags are the kernel's own findings
)

// foundRule is a rule of our protocol, and the message that told it.
type foundRule struct {
	netstate.Rule
	message[fibRuleHdr]
}

// rules returns the rules of our protocol, in the kernel's order.
func (n *Namespace) rules(family uint8) ([]foundRule, error) {
	msgs, err := n.dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, header(fibRuleHdr{Family: family}))
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var rules []foundRule
	for _, b := range msgs {
		m, err := parse[fibRuleHdr](b)
		if err != nil {
			return nil, err
		}
		if p := m.attrs[nl.FRA_PROTOCOL]; len(p) == 1 && p[0] == ident.RouteProtocol {
			rules = append(rules, foundRule{parseRule(m), m})
		}
	}
	return rules, nil
}

func parseRule(m message[fibRuleHdr]) netstate.Rule {
	r := netstate.Rule{
		Family: netstate.V4, Priority: int(u32(m.attrs[nl.FRA_PRIORITY])), Table: int(m.header.Table),
		Mark: u32(m.attrs[nl.FRA_FWMARK]), Mask: u32(m.attrs[nl.FRA_FWMASK]),
		Iif: unix.ByteSliceToString(m.attrs[nl.FRA_IIFNAME]), Extra: ruleExtra(m),
	}
	if m.header.Family == unix.AF_INET6 {
		r.Family = netstate.V6
	}
	if t := m.attrs[nl.FRA_TABLE]; t != nil {
		r.Table = int(u32(t))
	}
	if dst := m.attrs[nl.FRA_DST]; dst != nil {
		r.Dst = prefixOf(m.header.Family, dst, m.header.DstLen)
	}
	return r
}

// ruleExtra returns what a netstate.Rule has no field for.
func ruleExtra(m message[fibRuleHdr]) string {
	var extra []string
	if m.header.Action != actionToTable {
		extra = append(extra, fmt.Sprintf("action %d", m.header.Action))
	}
	if m.header.Flags&flagInvert != 0 {
		extra = append(extra, "not")
	}
	if m.header.Tos != 0 {
		extra = append(extra, fmt.Sprintf("tos %d", m.header.Tos))
	}
	return strings.Join(append(extra, unknownAttrs(m.attrs, func(kind uint16, value []byte) bool {
		switch kind {
		case nl.FRA_PRIORITY, nl.FRA_TABLE, nl.FRA_FWMARK, nl.FRA_FWMASK, nl.FRA_IIFNAME, nl.FRA_PROTOCOL, nl.FRA_DST, nl.FRA_PAD:
			return true
		case nl.FRA_SUPPRESS_PREFIXLEN:
			return u32(value) == 0xffff_ffff // none, which the kernel says of every rule
		}
		return false
	})...), " ")
}

func (a *applier) addRule(r netstate.Rule) error {
	parts, err := encodeRule(r)
	if err != nil {
		return err
	}
	err = a.n.change(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	// This may be another rule: to the kernel one to all destinations exists as soon as
	// one to any destination does (fib4_rule_compare). It takes both if told to.
	rules, err := a.n.rules(parts[0].Serialize()[0])
	if err != nil || slices.ContainsFunc(rules, func(f foundRule) bool { return f.Rule == r }) {
		return err
	}
	return a.n.change(unix.RTM_NEWRULE, unix.NLM_F_CREATE, parts...)
}

// delRule deletes one copy of a rule, and no other rule. The kernel deletes the first
// rule that has all that a request names, and a request cannot say "and nothing
// else": deleting "priority 7702 lookup 7717" would hit "priority 7702 fwmark 1
// lookup 7717" if that came first. Such rules get a copy at the end of their
// priority before theirs is deleted, so that none is missing at any time.
func (a *applier) delRule(r netstate.Rule) error {
	family, err := ruleFamily(r)
	if err != nil {
		return err
	}
	rules, err := a.n.rules(family)
	if err != nil {
		return err
	}
	target := slices.IndexFunc(rules, func(f foundRule) bool { return f.Rule == r })
	if target < 0 {
		return nil
	}
	request := payload(rules[target].raw)
	deletions := 1
	for _, victim := range rules[:target] {
		if !rules[target].covers(victim) {
			continue
		}
		deletions++
		if err := a.n.change(unix.RTM_NEWRULE, unix.NLM_F_CREATE, victim.again()...); err != nil {
			return fmt.Errorf("copy rule %v: %w", victim.Rule, err)
		}
	}
	for range deletions {
		if err := a.n.change(unix.RTM_DELRULE, 0, request); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// covers says that the kernel takes other for r when asked to delete r (rule_find): it
// compares what the request names and nothing else.
func (r foundRule) covers(other foundRule) bool {
	h, o := r.header, other.header
	if h.Action != o.Action || h.DstLen != 0 && h.DstLen != o.DstLen || h.SrcLen != 0 && h.SrcLen != o.SrcLen || h.Tos != 0 && h.Tos != o.Tos {
		return false
	}
	for kind, value := range r.attrs {
		if v, ok := other.attrs[kind]; !ok || !bytes.Equal(v, value) {
			return false
		}
	}
	return true
}

// again is the request that makes the same rule once more.
func (r foundRule) again() []nl.NetlinkRequestData {
	h := r.header
	h.Flags &= flagInvert
	parts := []nl.NetlinkRequestData{header(h)}
	for kind, value := range r.attrs {
		parts = append(parts, attr(int(kind), value))
	}
	return parts
}

func ruleFamily(r netstate.Rule) (uint8, error) {
	switch {
	case r.Dst.IsValid() && r.Dst.Addr().Is4() != (r.Family == netstate.V4):
		return 0, fmt.Errorf("destination %v is not of the rule's family, v%d", r.Dst, r.Family)
	case r.Family == netstate.V4:
		return unix.AF_INET, nil
	case r.Family == netstate.V6:
		return unix.AF_INET6, nil
	}
	return 0, fmt.Errorf("a rule of family %d: use netstate.V4 or netstate.V6", r.Family)
}

func encodeRule(r netstate.Rule) ([]nl.NetlinkRequestData, error) {
	family, err := ruleFamily(r)
	if err != nil {
		return nil, err
	}
	h := fibRuleHdr{Family: family, Action: actionToTable}
	parts := []nl.NetlinkRequestData{
		nil, attr32(nl.FRA_PRIORITY, uint32(r.Priority)), attr32(nl.FRA_TABLE, uint32(r.Table)),
		attr(nl.FRA_PROTOCOL, nl.Uint8Attr(ident.RouteProtocol)),
	}
	if r.Mask != 0 {
		parts = append(parts, attr32(nl.FRA_FWMARK, r.Mark), attr32(nl.FRA_FWMASK, r.Mask))
	}
	if r.Dst.IsValid() {
		h.DstLen = uint8(r.Dst.Bits())
		parts = append(parts, attr(nl.FRA_DST, r.Dst.Addr().AsSlice()))
	}
	if r.Iif != "" {
		parts = append(parts, attr(nl.FRA_IIFNAME, nl.ZeroTerminated(r.Iif)))
	}
	parts[0] = header(h)
	return parts, nil
}
