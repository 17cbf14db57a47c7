package joiner

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of a connection (enum ctattr_type in linux/netfilter/nfnetlink_conntrack.h), which package unix lacks.
const (
	ctaMark     = 8
	ctaMarkMask = 21
	ctDelete    = 2 // IPCTNL_MSG_CT_DELETE
)

// forget makes the kernel forget the connections whose mark, masked, is mark, in the namespace of nsFD. What comes of
// them next is a new connection, translated by the rules of then.
func forget(nsFD int, mark, mask uint32) (err error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: nsFD})
	if err != nil {
		return fmt.Errorf("forget connections: open a netfilter socket: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ae := netlink.NewAttributeEncoder()
	// The kernel keeps numbers of connections in network order.
	ae.Bytes(ctaMark, be32(mark))
	ae.Bytes(ctaMarkMask, be32(mask))
	attrs, err := ae.Encode()
	if err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	// Without a tuple the request means all that the filter fits (ctnetlink_flush_conntrack). The struct nfgenmsg before
	// the attributes says any family.
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete),
			Flags: netlink.Request | netlink.Acknowledge,
		},
		Data: append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if err != nil {
		return fmt.Errorf("forget connections of mark %#x/%#x: %w", mark, mask, err)
	}
	return nil
}

func be32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
