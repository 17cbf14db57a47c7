package ruleset

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
)

// Socket buffers, in bytes. A batch is one message to the kernel and must fit the
// send buffer; every part of it is acknowledged, and every rule echoed, before the first
// acknowledgement is read, which is what the receive buffer must hold.
// The default, 208 KiB, ends at some hundred rules or two thousand prefixes.
const (
	sendBuffer    = 16 << 20
	receiveBuffer = 16 << 20
)

// chunk is how many elements of a set go into one message, whose attribute of
// elements must stay below 64 KiB (struct nlattr); one takes up to 48 bytes.
const chunk = 1000

// batch collects a transaction.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  uint32
}

func (c *Conn) batch(table string) (*batch, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(nl *netlink.Conn) error {
		if err := nl.SetWriteBuffer(sendBuffer); err != nil {
			return err
		}
		return nl.SetReadBuffer(receiveBuffer)
	}))
	if err != nil {
		return nil, err
	}
	return &batch{conn: conn, table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}}, nil
}

// replace commits want in the place of whatever is there.
func (c *Conn) replace(want Table) error {
	b, err := c.batch(want.Name)
	if err != nil {
		return err
	}
	// Deleting fails where there is none, adding does not where there is one.
	b.conn.AddTable(b.table)
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	for _, chain := range want.Chains {
		if err := b.addChain(chain); err != nil {
			return fmt.Errorf("chain %s: %w", chain.Name, err)
		}
	}
	return c.ns.Do(b.conn.Flush) // which opens the socket
}

func (c *Conn) remove(name string) error {
	b, err := c.batch(name)
	if err != nil {
		return err
	}
	b.conn.DelTable(b.table)
	return c.ns.Do(b.conn.Flush) // which opens the socket
}

func (b *batch) addChain(c Chain) error {
	policy := nftables.ChainPolicyDrop
	if c.Policy == PolicyAccept {
		policy = nftables.ChainPolicyAccept
	}
	chain := b.conn.AddChain(&nftables.Chain{
		Name:     c.Name,
		Table:    b.table,
		Type:     nftables.ChainType(c.Type),
		Hooknum:  nftables.ChainHookRef(nftables.ChainHook(hookNumber(c.Hook))),
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)),
		Policy:   &policy,
	})
	for _, f := range flattenAll(c.Rules) {
		exprs, err := b.exprs(encode(f))
		if err != nil {
			return err
		}
		rule := &nftables.Rule{Table: b.table, Chain: chain, Exprs: exprs}
		if f.comment != "" {
			rule.UserData = userdata.AppendString(nil, userdata.TypeComment, f.comment)
		}
		b.conn.AddRule(rule)
	}
	return nil
}

// exprs returns the expressions of the steps, having added the sets that they look up in.
func (b *batch) exprs(steps []step) ([]expr.Any, error) {
	out := make([]expr.Any, len(steps))
	for i, s := range steps {
		out[i] = s.Any
		l, ok := s.Any.(*expr.Lookup)
		if !ok {
			continue
		}
		set, err := b.addSet(s)
		if err != nil {
			return nil, err
		}
		l.SetName, l.SetID = set.Name, set.ID
	}
	return out, nil
}

func (b *batch) addSet(s step) (*nftables.Set, error) {
	b.sets++
	all := elements(s.set)
	set := &nftables.Set{
		Table: b.table,
		// The library would number sets with a global variable that several
		// connections write to without a lock. Within a batch any number will do.
		ID:        b.sets,
		Name:      "__set%d", // the kernel puts the first free number there
		Anonymous: true,
		Constant:  true,
		Interval:  true,
		KeyType:   nftables.TypeIP6Addr,
		Size:      uint32(len(all)), // not that of the first chunk, which the library would say
	}
	if s.set[0].Addr().Is4() {
		set.KeyType = nftables.TypeIPAddr
	}
	if err := b.conn.AddSet(set, all[:min(chunk, len(all))]); err != nil {
		return nil, fmt.Errorf("set of %d prefixes: %w", len(s.set), err)
	}
	// The library refuses to add to an anonymous set; the kernel does not, within the
	// transaction that makes it.
	more := *set
	more.Anonymous = false
	for from := chunk; from < len(all); from += chunk {
		if err := b.conn.SetAddElements(&more, all[from:min(from+chunk, len(all))]); err != nil {
			return nil, fmt.Errorf("set of %d prefixes: %w", len(s.set), err)
		}
	}
	return set, nil
}
