package ruleset

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// setFlags are those of a set that belongs to one rule and cannot be changed: the kernel
// refuses to, so such a set is as sure as the rule's expressions.
const setFlags = unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL

// bound is one end of an interval in a set: the first address, or the first
// one after the last.
type bound struct {
	addr netip.Addr
	end  bool
}

// bounds returns the ends of the prefixes' intervals. The prefixes are canonical and
// of one family. An interval that reaches the last address has no end.
func bounds(prefixes []netip.Prefix) []bound {
	var out []bound
	for _, p := range prefixes {
		r := netipx.RangeOfPrefix(p)
		out = append(out, bound{addr: r.From()})
		if after := r.To().Next(); after.IsValid() {
			out = append(out, bound{addr: after, end: true})
		}
	}
	return out
}

func elements(prefixes []netip.Prefix) []nftables.SetElement {
	var out []nftables.SetElement
	for _, b := range bounds(prefixes) {
		out = append(out, nftables.SetElement{Key: b.addr.AsSlice(), IntervalEnd: b.end})
	}
	return out
}

// prefixesOf is the inverse of bounds, whatever their order.
func prefixesOf(bs []bound) []netip.Prefix {
	slices.SortFunc(bs, func(a, b bound) int {
		if c := a.addr.Compare(b.addr); c != 0 || a.end == b.end {
			return c
		}
		if a.end { // an interval ends where the next begins
			return -1
		}
		return 1
	})
	var set netipx.IPSetBuilder
	for i, b := range bs {
		if b.end {
			continue // also the one with which nft begins a set
		}
		last := lastAddr(b.addr)
		if i+1 < len(bs) {
			last = bs[i+1].addr.Prev()
		}
		set.AddRange(netipx.IPRangeFrom(b.addr, last))
	}
	s, err := set.IPSet()
	if err != nil {
		return nil
	}
	return s.Prefixes()
}

func lastAddr(a netip.Addr) netip.Addr {
	return netipx.PrefixLastIP(netip.PrefixFrom(a, 0).Masked())
}

type parsedSet struct {
	name  string
	flags uint32
}

func parseSet(b []byte) (parsedSet, error) {
	var s parsedSet
	err := attrs(b, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NFTA_SET_NAME:
			s.name = ad.String()
		case unix.NFTA_SET_FLAGS:
			s.flags = ad.Uint32()
		}
		return nil
	})
	return s, err
}

// parseElements returns the ends of intervals in one message of a set's elements; ok
// is false when there is more to an element than an address.
func parseElements(b []byte) (out []bound, ok bool, err error) {
	ok = true
	err = attrs(b, func(ad *netlink.AttributeDecoder) error {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return nil
		}
		return attrs(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
			var e bound
			err := attrs(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
				switch ad.Type() {
				case unix.NFTA_SET_ELEM_KEY:
					return attrs(ad.Bytes(), func(ad *netlink.AttributeDecoder) error {
						e.addr, _ = netip.AddrFromSlice(ad.Bytes())
						return nil
					})
				case unix.NFTA_SET_ELEM_FLAGS:
					e.end = ad.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
				default:
					ok = false
				}
				return nil
			})
			ok = ok && e.addr.IsValid()
			out = append(out, e)
			return err
		})
	})
	return out, ok, err
}
