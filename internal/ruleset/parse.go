package ruleset

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attrs calls each with every attribute of b, numbers in network byte order.
func attrs(b []byte, each func(*netlink.AttributeDecoder) error) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if err := each(ad); err != nil {
			return err
		}
	}
	return ad.Err()
}

// parsedRule is a rule as read; the sets of its lookups are still names in the expressions.
type parsedRule struct {
	chain          string
	steps          []step
	comment        string
	packets, bytes uint64
}

func parseRule(b []byte) (parsedRule, error) {
	var r parsedRule
	err := attrs(b, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_RULE_CHAIN:
			r.chain = ad.String()
		case unix.NFTA_RULE_USERDATA:
			r.comment = parseComment(ad.Bytes())
		case unix.NFTA_RULE_EXPRESSIONS:
			return attrs(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				s, err := parseExpr(ad.Bytes())
				r.steps = append(r.steps, s)
				return err
			})
		}
		return nil
	})
	for _, s := range r.steps {
		if c, ok := s.Any.(*expr.Counter); ok {
			r.packets, r.bytes = c.Packets, c.Bytes
			*c = expr.Counter{} // values are no part of what a rule is
		}
	}
	return r, err
}

// parseComment reads the first comment of a rule's user data: type, length, value,
// as libnftnl writes them (include/libnftnl/udata.h). Data of another make is no comment.
func parseComment(b []byte) string {
	const typeComment = 0
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		value := b[2 : 2+int(b[1])]
		if b[0] == typeComment && len(value) > 0 {
			return string(value[:len(value)-1])
		}
		b = b[2+len(value):]
	}
	return ""
}

func parseExpr(b []byte) (step, error) {
	var name string
	var data []byte
	err := attrs(b, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			data = ad.Bytes()
		}
		return nil
	})
	if err != nil {
		return step{}, fmt.Errorf("expression: %w", err)
	}
	e := newExpr(name)
	if e == nil || parseInto(e, data) != nil {
		// What cannot be read is none of ours, and no reason to leave it there.
		return step{unknown: name}, nil
	}
	if imm, ok := e.(*expr.Immediate); ok && imm.Register == unix.NFT_REG_VERDICT {
		v := &expr.Verdict{}
		return step{Any: v}, expr.Unmarshal(unix.NFPROTO_INET, data, v)
	}
	return step{Any: e}, nil
}

// newExpr returns nil for expressions that this package does not write.
func newExpr(name string) expr.Any {
	var e expr.Any
	switch name {
	case "rt":
		e = &expr.Rt{}
	case "byteorder":
		e = &expr.Byteorder{}
	case "immediate":
		e = &expr.Immediate{}
	case "meta":
		e = &expr.Meta{}
	case "cmp":
		e = &expr.Cmp{}
	case "bitwise":
		e = &expr.Bitwise{}
	case "payload":
		e = &expr.Payload{}
	case "lookup":
		e = &expr.Lookup{}
	case "ct":
		e = &expr.Ct{}
	case "fib":
		e = &expr.Fib{}
	case "counter":
		e = &expr.Counter{}
	case "reject":
		e = &expr.Reject{}
	case "masq":
		e = &expr.Masq{}
	case "nat":
		e = &expr.NAT{}
	case "exthdr":
		e = &expr.Exthdr{}
	}
	return e
}

// parseInto does itself what the library (v0.3.0) says is not yet implemented,
// and ct, of which it overlooks the register that is written from.
func parseInto(e expr.Any, data []byte) error {
	switch e := e.(type) {
	case *expr.Ct:
		return attrs(data, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.NFTA_CT_KEY:
				e.Key = expr.CtKey(ad.Uint32())
			case unix.NFTA_CT_DREG:
				e.Register = ad.Uint32()
			case unix.NFTA_CT_SREG:
				e.Register, e.SourceRegister = ad.Uint32(), true
			default: // a direction: no key of ours has one
				return fmt.Errorf("attribute %d of ct", ad.Type())
			}
			return nil
		})
	case *expr.Rt:
		return attrs(data, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.NFTA_RT_DREG:
				e.Register = ad.Uint32()
			case unix.NFTA_RT_KEY:
				e.Key = expr.RtKey(ad.Uint32())
			}
			return nil
		})
	case *expr.Byteorder:
		return attrs(data, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.NFTA_BYTEORDER_SREG:
				e.SourceRegister = ad.Uint32()
			case unix.NFTA_BYTEORDER_DREG:
				e.DestRegister = ad.Uint32()
			case unix.NFTA_BYTEORDER_OP:
				e.Op = expr.ByteorderOp(ad.Uint32())
			case unix.NFTA_BYTEORDER_LEN:
				e.Len = ad.Uint32()
			case unix.NFTA_BYTEORDER_SIZE:
				e.Size = ad.Uint32()
			}
			return nil
		})
	}
	return expr.Unmarshal(unix.NFPROTO_INET, data, e)
}

// parseChain returns a chain and the name of its table.
func parseChain(b []byte) (c Chain, table string, err error) {
	based := false
	err = attrs(b, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_CHAIN_TABLE:
			table = ad.String()
		case unix.NFTA_CHAIN_NAME:
			c.Name = ad.String()
		case unix.NFTA_CHAIN_TYPE:
			c.Type = Type(ad.String())
		case unix.NFTA_CHAIN_POLICY:
			c.Policy = PolicyDrop
			if ad.Uint32() == uint32(nftables.ChainPolicyAccept) {
				c.Policy = PolicyAccept
			}
		case unix.NFTA_CHAIN_HOOK:
			based = true
			return attrs(ad.Bytes(), c.parseHook)
		}
		return nil
	})
	switch {
	case !based:
		c.Unknown = "not a base chain"
	case c.Hook == "" || hooksOf(c.Type) == nil:
		c.Unknown = "a type or hook that is none of ours"
	}
	return c, table, err
}

func (c *Chain) parseHook(ad *netlink.AttributeDecoder) error {
	switch ad.Type() {
	case unix.NFTA_HOOK_HOOKNUM:
		for _, h := range hooksOf(TypeFilter) {
			if hookNumber(h) == ad.Uint32() {
				c.Hook = h
			}
		}
	case unix.NFTA_HOOK_PRIORITY:
		c.Priority = int(int32(ad.Uint32()))
	}
	return nil
}

func hookNumber(h Hook) uint32 {
	switch h {
	case HookPrerouting:
		return unix.NF_INET_PRE_ROUTING
	case HookInput:
		return unix.NF_INET_LOCAL_IN
	case HookForward:
		return unix.NF_INET_FORWARD
	case HookOutput:
		return unix.NF_INET_LOCAL_OUT
	}
	return unix.NF_INET_POST_ROUTING
}
