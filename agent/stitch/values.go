package stitch

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// NetNS names a network namespace.
type NetNS struct {
	// Path is its file as this process sees it, as in /run/netns/cni-….
	Path string
	// ID is what is to be found there; zero: whatever is there when the engine first looks.
	ID netns.ID
}

// same reports whether both name one namespace, as far as can be told without looking.
func (n NetNS) same(o NetNS) bool {
	if n.ID != (netns.ID{}) && o.ID != (netns.ID{}) {
		return n.ID == o.ID
	}
	return n.Path == o.Path
}

// Member is a pod that belongs to a group, or is to belong to none.
type Member struct {
	// ID is unique on the node: the pod's UID. At most 100 bytes, no white space.
	ID string
	// Name is for people, as in "namespace/pod".
	Name  string
	NetNS NetNS
	// Group it belongs to; "": none, and what is left of an earlier membership is taken out.
	Group string
	// Resolvers are the nameservers in the pod's resolv.conf, whose queries a group with MagicDNS redirects.
	Resolvers []netip.Addr
}

func (m Member) equal(o Member) bool {
	return m.ID == o.ID && m.Name == o.Name && m.NetNS == o.NetNS && m.Group == o.Group && slices.Equal(m.Resolvers, o.Resolvers)
}

// Group is what its members are given.
type Group struct {
	Name string
	// Prefixes are steered beside the tailnet's own.
	Prefixes []netip.Prefix
	// Mirror steers the routes that the gateway accepts, too, as they come and go.
	Mirror bool
	// Exit steers all else; nil: it does not.
	Exit *Exit
	// MagicDNS redirects the members' queries to the tailnet's resolver.
	MagicDNS bool
}

// Exit is the use of an exit node.
type Exit struct {
	// Direct stay on the pod's own interface beside the cluster's CIDRs and the networks that the gateway keeps
	// off its exit node.
	Direct []netip.Prefix
}

// Gateway is a group's gateway on this node.
type Gateway struct {
	NetNS NetNS
	// Snapshot is the last that the gateway said of itself; nil: it has said nothing yet. Of a gateway that was heard and
	// is not any more, nil says that it is not ready, too.
	Snapshot *snapshot.Snapshot
}

// Options of [New]. The zero value will do.
type Options struct {
	// Workers bounds how many namespaces are worked on at once; 0: 8. Most of a join is spent waiting for
	// the kernel's one lock of network configuration.
	Workers int
	// RetryFirst and RetryMost are the first and the longest pause before what failed is tried again; 0: 100 ms and 30 s.
	RetryFirst, RetryMost time.Duration
	// Changed is called with each new status of a member, and when one is forgotten, one call at a time for one member. It must not block.
	// nil: nobody wants to know.
	Changed func(Status)
	// GroupChanged is called with a group's name when its gateway's namespace was found, lost or repaired: what a
	// Report says of it may be different. It must not block. nil: nobody wants to know.
	GroupChanged func(name string)
	// Logger; nil is slog.Default.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Workers == 0 {
		o.Workers = 8
	}
	if o.RetryFirst == 0 {
		o.RetryFirst = 100 * time.Millisecond
	}
	if o.RetryMost == 0 {
		o.RetryMost = 30 * time.Second
	}
	if o.Changed == nil {
		o.Changed = func(Status) {}
	}
	if o.GroupChanged == nil {
		o.GroupChanged = func(string) {}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}
