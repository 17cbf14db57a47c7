package ruleset

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strings"
)

// maxComment is in bytes: nft keeps 128, its final NUL among them
// (NFTNL_UDATA_COMMENT_MAXLEN in libnftnl).
const maxComment = 127

// maxLinkName is IFNAMSIZ less the final NUL.
const maxLinkName = 15

// identifier is what nft takes as a name without quotes; 127 bytes are less than
// the kernel's limit (NFT_NAME_MAXLEN, 256).
var identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,126}$`)

// Validate says, a sentence each, what of t the kernel would refuse or would take for
// something else than it says. Nil: [Conn.Apply] will take it.
func (t Table) Validate() error {
	var errs []error
	if !identifier.MatchString(t.Name) {
		errs = append(errs, fmt.Errorf("table name %q must be a letter and then letters, digits, _ or -", t.Name))
	}
	if len(t.Unknown) > 0 {
		errs = append(errs, fmt.Errorf("table %s holds unknown parts (%s): it was observed and cannot be applied", t.Name, strings.Join(t.Unknown, ", ")))
	}
	seen := map[string]bool{}
	for _, c := range t.Chains {
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("table %s has two chains named %q: give each its own name", t.Name, c.Name))
		}
		seen[c.Name] = true
		for _, err := range c.validate() {
			errs = append(errs, fmt.Errorf("table %s, chain %s: %w", t.Name, c.Name, err))
		}
		for i, r := range c.Rules {
			for _, err := range r.validate(c) {
				errs = append(errs, fmt.Errorf("table %s, chain %s, rule %d: %w", t.Name, c.Name, i+1, err))
			}
		}
	}
	return errors.Join(errs...)
}

// hooksOf are the hooks that a chain of each type may have in family inet
// (nf_tables "chain types": nft_chain_filter.c, nft_chain_nat.c, nft_chain_route.c).
func hooksOf(t Type) []Hook {
	switch t {
	case TypeFilter:
		return []Hook{HookPrerouting, HookInput, HookForward, HookOutput, HookPostrouting}
	case TypeNAT:
		return []Hook{HookPrerouting, HookInput, HookOutput, HookPostrouting}
	case TypeRoute:
		return []Hook{HookOutput}
	}
	return nil
}

func (c Chain) validate() []error {
	var errs []error
	if !identifier.MatchString(c.Name) {
		errs = append(errs, errors.New("the name must be a letter and then letters, digits, _ or -"))
	}
	if c.Unknown != "" {
		errs = append(errs, fmt.Errorf("it is unknown (%s): it was observed and cannot be applied", c.Unknown))
	}
	switch hooks := hooksOf(c.Type); {
	case hooks == nil:
		errs = append(errs, fmt.Errorf("type %q must be filter, nat or route", c.Type))
	case !slices.Contains(hooks, c.Hook):
		errs = append(errs, fmt.Errorf("a chain of type %s cannot be at hook %q; write one of %v", c.Type, c.Hook, hooks))
	}
	if c.Policy != PolicyAccept && c.Policy != PolicyDrop {
		errs = append(errs, fmt.Errorf("policy %q must be accept or drop", c.Policy))
	}
	if c.Type == TypeNAT && c.Priority <= -200 {
		errs = append(errs, fmt.Errorf("priority %d of a nat chain must be above -200, where connections begin to be tracked", c.Priority))
	}
	return errs
}

func (r Rule) validate(c Chain) []error {
	var errs []error
	if r.Unknown != "" {
		return []error{fmt.Errorf("it is unknown (%s): it was observed and cannot be applied", r.Unknown)}
	}
	if len(r.Comment) > maxComment {
		errs = append(errs, fmt.Errorf("the comment has %d bytes; write at most %d", len(r.Comment), maxComment))
	}
	if strings.ContainsFunc(r.Comment, func(c rune) bool { return c < ' ' || c == '"' || c == '\\' || c > '~' }) {
		errs = append(errs, fmt.Errorf("the comment %q must be printable ASCII without quotes and backslashes", r.Comment))
	}
	for _, m := range r.Matches {
		if err := m.validate(c); err != nil {
			errs = append(errs, err)
		}
	}
	if err := r.Action.validate(c); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return errs
	}
	if len(r.Matches)+len(r.effect()) == 0 {
		return []error{errors.New("it matches everything and does nothing: give it an action, a counter or a comment, or leave it out")}
	}
	if len(flatten(r)) == 0 {
		return []error{errors.New("it can match no packet: its addresses, family and action are of no one family")}
	}
	if r.Action.Kind == kindDNAT && r.Action.To.Port() != 0 && !r.namesPortProto() {
		return []error{errors.New("dnat to a port needs a match on TCP or UDP: put DstPort or L4Proto before it")}
	}
	return nil
}

// effect is what the rule does with what it matches; "": nothing.
func (r Rule) effect() string {
	if r.Counter {
		return "counter"
	}
	return r.Action.text() + r.Comment
}

func (r Rule) namesPortProto() bool {
	return slices.ContainsFunc(r.Matches, func(m Match) bool {
		switch m.Kind {
		case kindDstPort, kindSyn:
			return true
		case kindL4Proto:
			return !m.Not && (m.Proto == TCP || m.Proto == UDP)
		}
		return false
	})
}

func (m Match) validate(c Chain) error {
	switch m.Kind {
	case kindFamily:
		if m.Family != V4 && m.Family != V6 {
			return fmt.Errorf("family %q must be V4 or V6", m.Family)
		}
	case kindIif, kindOif:
		return m.validateLink(c)
	case kindMark, kindCTMark:
		return validateMark(string(m.Kind), m.Value, m.Mask)
	case kindCTState:
		return m.States.validate()
	case kindSrc, kindDst:
		return m.validateList()
	case kindDstPort:
		if m.Proto != TCP && m.Proto != UDP {
			return fmt.Errorf("a destination port belongs to TCP or UDP, not to protocol %s", m.Proto)
		}
		if m.Port == 0 {
			return fmt.Errorf("port 0 of %s is no port; write 1 to 65535", m.Proto)
		}
	case kindL4Proto, kindSyn, kindLocal:
	default:
		return fmt.Errorf("match %q does not exist: make matches with the functions of this package", m.Kind)
	}
	return nil
}

func (m Match) validateLink(c Chain) error {
	if m.Link == "" || len(m.Link) > maxLinkName || strings.ContainsFunc(m.Link, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"*/\`, r)
	}) {
		return fmt.Errorf("%s %q must be 1 to %d printable characters without space, quote, backslash, slash and star", m.Kind, m.Link, maxLinkName)
	}
	if m.Kind == kindIif && c.Hook == HookOutput {
		return fmt.Errorf("a packet at hook %s has come in by no link: leave out iifname %q", c.Hook, m.Link)
	}
	if m.Kind == kindOif && (c.Hook == HookPrerouting || c.Hook == HookInput) {
		return fmt.Errorf("a packet at hook %s has no link to go out by yet: leave out oifname %q", c.Hook, m.Link)
	}
	return nil
}

func (m Match) validateList() error {
	if len(m.Addrs) == 0 {
		return fmt.Errorf("%s has an empty list, which matches nothing or, negated, everything: leave out the rule or the match", m.Kind)
	}
	for _, p := range m.Addrs {
		if !validPrefix(p) {
			return fmt.Errorf("%s: prefix %s is not valid: write it as 10.0.0.0/8 or fd00::/8, IPv4 addresses never as ::ffff:…", m.Kind, p)
		}
	}
	return nil
}

func (s State) validate() error {
	rest := s
	for _, n := range stateNames() {
		rest &^= n.state
	}
	if s == 0 || rest != 0 {
		return fmt.Errorf("ct state %#x must be one or more of the State constants", uint32(s))
	}
	return nil
}

func validateMark(what string, value, mask uint32) error {
	if mask == 0 {
		return fmt.Errorf("%s with mask 0 covers nothing: write the bits that count, or %#x for all", what, ^uint32(0))
	}
	if value&^mask != 0 {
		return fmt.Errorf("%s: value %#x has bits outside of mask %#x", what, value, mask)
	}
	return nil
}

func (a Action) validate(c Chain) error {
	switch a.Kind {
	case kindNothing, kindAccept, kindDrop, kindReturn:
	case kindReject:
		if c.Hook == HookPostrouting || c.Type == TypeNAT {
			return errors.New("reject cannot be in a nat chain or at postrouting; use a filter chain at input, forward or output")
		}
	case kindSetMark, kindSetCTMark:
		return validateMark(string(a.Kind), a.Value, a.Mask)
	case kindRestoreMark:
		if bits.OnesCount32(a.Mask) != 1 {
			return fmt.Errorf("restore mark: mask %#x must be a single bit; write a rule for each", a.Mask)
		}
	case kindMasquerade:
		if c.Type != TypeNAT || c.Hook != HookPostrouting {
			return errors.New("masquerade must be in a chain of type nat at postrouting")
		}
	case kindClampMSS:
		if c.Type == TypeNAT || !slices.Contains([]Hook{HookForward, HookOutput, HookPostrouting}, c.Hook) {
			return errors.New("clamping the MSS needs a route: use a filter chain at forward, output or postrouting")
		}
	case kindDNAT:
		return a.validateDNAT(c)
	default:
		return fmt.Errorf("action %q does not exist: make actions with the functions of this package", a.Kind)
	}
	return nil
}

func (a Action) validateDNAT(c Chain) error {
	if c.Type != TypeNAT || (c.Hook != HookPrerouting && c.Hook != HookOutput) {
		return errors.New("dnat must be in a chain of type nat at prerouting or output")
	}
	if ip := a.To.Addr(); !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" {
		return fmt.Errorf("dnat to %q: write an IPv4 or IPv6 address, without zone and not as ::ffff:…", ip)
	}
	return nil
}
