package ruleset

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// maxReads bounds how often a read that a change interrupted is begun again.
// A read of a small table takes a fraction of a millisecond; to be interrupted so
// often somebody must commit changes without a pause.
const maxReads = 100

// errChanging is returned when no read was left alone.
var errChanging = errors.New("nftables changed during each of 100 reads of it")

// reading is a table as the kernel gave it, all parts from one generation.
type reading struct {
	name   string
	flags  uint32
	chains []Chain
	rules  []parsedRule
	sets   map[string][]netip.Prefix // those that can be ours
	// others are named sets, objects and flow tables. The table's own count of what it
	// holds (NFTA_TABLE_USE) cannot be used: it changes while a transaction is prepared.
	others []string
}

// read returns the table; false: there is none.
func (c *Conn) read(name string) (reading, bool, error) {
	nl, err := c.dial()
	if err != nil {
		return reading{}, false, err
	}
	defer func() { _ = nl.Close() }()
	r := reader{nl: nl}
	for range maxReads {
		before, err := r.generation()
		if err != nil {
			return reading{}, false, err
		}
		t, ok, readErr := r.table(name)
		after, err := r.generation()
		if err != nil {
			return reading{}, false, err
		}
		// The kernel counts commits; a dump in several parts is consistent only
		// if there was none, and an error may come from nothing else.
		if before == after {
			return t, ok, readErr
		}
	}
	return reading{}, false, errChanging
}

// reader sends requests and returns the attributes of the answers.
type reader struct{ nl *netlink.Conn }

func (r reader) get(msg int, flags netlink.HeaderFlags, names ...netlink.Attribute) ([][]byte, error) {
	data, err := netlink.MarshalAttributes(names)
	if err != nil {
		return nil, err
	}
	family := byte(unix.NFPROTO_INET)
	if msg == unix.NFT_MSG_GETGEN {
		family = unix.NFPROTO_UNSPEC
	}
	replies, err := r.nl.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, len(replies))
	for _, m := range replies {
		if len(m.Data) < nfgenSize {
			return nil, fmt.Errorf("answer of %d bytes is too short", len(m.Data))
		}
		out = append(out, m.Data[nfgenSize:])
	}
	return out, nil
}

// nfgenSize is the size of struct nfgenmsg, before the attributes.
const nfgenSize = 4

// Attributes of a flow table, which golang.org/x/sys does not have (enum
// nft_flowtable_attributes in linux/netfilter/nf_tables.h).
const (
	flowtableTable = 1
	flowtableName  = 2
)

func named(typ uint16, name string) netlink.Attribute {
	return netlink.Attribute{Type: typ, Data: append([]byte(name), 0)}
}

func (r reader) generation() (uint32, error) {
	msgs, err := r.get(unix.NFT_MSG_GETGEN, 0)
	if err != nil {
		return 0, fmt.Errorf("read the generation of nftables: %w", err)
	}
	var id uint32
	for _, m := range msgs {
		err = errors.Join(err, attrs(m, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_GEN_ID {
				id = ad.Uint32()
			}
			return nil
		}))
	}
	return id, err
}

func (r reader) table(name string) (reading, bool, error) {
	t := reading{name: name, sets: map[string][]netip.Prefix{}}
	msgs, err := r.get(unix.NFT_MSG_GETTABLE, 0, named(unix.NFTA_TABLE_NAME, name))
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err != nil {
		return t, false, fmt.Errorf("read table %s: %w", name, err)
	}
	for _, m := range msgs {
		err = errors.Join(err, attrs(m, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_TABLE_FLAGS {
				t.flags = ad.Uint32()
			}
			return nil
		}))
	}
	return t, true, errors.Join(err, r.chains(&t), r.rules(&t), r.sets(&t),
		r.others(&t, "object", unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME),
		r.others(&t, "flow table", unix.NFT_MSG_GETFLOWTABLE, flowtableTable, flowtableName))
}

func (r reader) chains(t *reading) error {
	msgs, err := r.get(unix.NFT_MSG_GETCHAIN, netlink.Dump)
	if err != nil {
		return fmt.Errorf("read the chains of table %s: %w", t.name, err)
	}
	for _, m := range msgs {
		c, table, err := parseChain(m)
		if err != nil {
			return fmt.Errorf("read a chain of table %s: %w", t.name, err)
		}
		if table == t.name { // the dump is of all tables of the family
			t.chains = append(t.chains, c)
		}
	}
	return nil
}

func (r reader) rules(t *reading) error {
	msgs, err := r.get(unix.NFT_MSG_GETRULE, netlink.Dump, named(unix.NFTA_RULE_TABLE, t.name))
	if err != nil {
		return fmt.Errorf("read the rules of table %s: %w", t.name, err)
	}
	for _, m := range msgs {
		rule, err := parseRule(m)
		if err != nil {
			return fmt.Errorf("read a rule of table %s: %w", t.name, err)
		}
		t.rules = append(t.rules, rule)
	}
	return nil
}

func (r reader) sets(t *reading) error {
	msgs, err := r.get(unix.NFT_MSG_GETSET, netlink.Dump, named(unix.NFTA_SET_TABLE, t.name))
	if err != nil {
		return fmt.Errorf("read the sets of table %s: %w", t.name, err)
	}
	for _, m := range msgs {
		s, err := parseSet(m)
		if err != nil {
			return fmt.Errorf("read a set of table %s: %w", t.name, err)
		}
		if s.flags&unix.NFT_SET_ANONYMOUS == 0 {
			t.others = append(t.others, "set "+s.name)
		}
		if s.flags != setFlags {
			continue
		}
		if t.sets[s.name], err = r.elements(t.name, s.name); err != nil {
			return err
		}
	}
	return nil
}

// elements returns nil for a set that holds more than addresses.
func (r reader) elements(table, set string) ([]netip.Prefix, error) {
	msgs, err := r.get(unix.NFT_MSG_GETSETELEM, netlink.Dump,
		named(unix.NFTA_SET_ELEM_LIST_TABLE, table), named(unix.NFTA_SET_ELEM_LIST_SET, set))
	if err != nil {
		return nil, fmt.Errorf("read set %s of table %s: %w", set, table, err)
	}
	var all []bound
	for _, m := range msgs {
		bs, ok, err := parseElements(m)
		if err != nil {
			return nil, fmt.Errorf("read an element of set %s of table %s: %w", set, table, err)
		}
		if !ok {
			return nil, nil
		}
		all = append(all, bs...)
	}
	return prefixesOf(all), nil
}

// others adds the names of things that this package never makes.
func (r reader) others(t *reading, what string, msg int, tableAttr, nameAttr uint16) error {
	msgs, err := r.get(msg, netlink.Dump, named(tableAttr, t.name))
	if err != nil {
		return fmt.Errorf("read each %s of table %s: %w", what, t.name, err)
	}
	for _, m := range msgs {
		var table, name string
		if err := attrs(m, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case tableAttr:
				table = ad.String()
			case nameAttr:
				name = ad.String()
			}
			return nil
		}); err != nil {
			return fmt.Errorf("read a %s of table %s: %w", what, t.name, err)
		}
		if table == t.name {
			t.others = append(t.others, what+" "+name)
		}
	}
	return nil
}

// resolve puts the contents of sets in the place of their names.
func (t reading) resolve(steps []step) []step {
	for i, s := range steps {
		l, ok := s.Any.(*expr.Lookup)
		if !ok {
			continue
		}
		if prefixes := t.sets[l.SetName]; prefixes != nil {
			l.SetName, l.SetID = "", 0
			steps[i].set = prefixes
		} else {
			steps[i] = step{unknown: "lookup"}
		}
	}
	return steps
}

// value returns the table as a plain value.
func (t reading) value() Table {
	out := Table{Name: t.name}
	if t.flags != 0 {
		out.Unknown = append(out.Unknown, fmt.Sprintf("flags %#x", t.flags))
	}
	out.Unknown = append(out.Unknown, t.others...)
	for _, c := range t.chains {
		var flats []flat
		for _, r := range t.rules {
			if r.chain == c.Name {
				flats = append(flats, decode(t.resolve(r.steps), r.comment))
			}
		}
		c.Rules = lift(flats)
		out.Chains = append(out.Chains, c)
	}
	return out
}
