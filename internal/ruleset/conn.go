package ruleset

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// Conn works on the nftables of one network namespace, which it keeps
// alive until it is closed. Its methods may be called from several goroutines.
type Conn struct {
	ns *netns.Handle

	mu sync.Mutex // held from observing to having applied
}

// Open returns a Conn for the network namespace that netnsFD refers to (an open
// /proc/PID/ns/net or a bind mount of one). The descriptor is duplicated: the caller keeps and
// closes its own. Open fails if the descriptor is no network namespace or the
// caller may not manage it (CAP_NET_ADMIN).
func Open(netnsFD int) (*Conn, error) {
	fd, err := unix.FcntlInt(uintptr(netnsFD), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor %d of a network namespace: %w", netnsFD, err)
	}
	ns, err := netns.FromFD(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	c := &Conn{ns: ns}
	nl, err := c.dial()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	defer func() { _ = nl.Close() }()
	if _, err := (reader{nl: nl}).generation(); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return c, nil
}

// Close lets the namespace go. Subscriptions end with their contexts, not here.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ns.Close()
}

// dial opens a socket for one piece of work: after an error nothing stale is
// left in it for the next.
func (c *Conn) dial() (*netlink.Conn, error) {
	var nl *netlink.Conn
	err := c.ns.Do(func() (err error) { // and not Config.NetNS, which asks for CAP_SYS_ADMIN where there is no need
		nl, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket in a network namespace: %w", err)
	}
	return nl, nil
}

// Observe returns the table of this name and family inet; false: there is
// none. All parts are of one moment.
func (c *Conn) Observe(name string) (Table, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observe(name)
}

func (c *Conn) observe(name string) (Table, bool, error) {
	r, ok, err := c.read(name)
	if err != nil || !ok {
		return Table{}, false, err
	}
	return r.value(), true, nil
}

// Apply makes the table want.Name equal to want and says whether it had to: if
// it is equal already nothing is sent, and counters go on. Otherwise the table is
// replaced as a whole in one transaction; counters begin at 0. After an error
// the old table stands, or the new one if the error says that it reads back as another.
func (c *Conn) Apply(want Table) (changed bool, err error) {
	if err := want.Validate(); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok, err := c.observe(want.Name)
	if err != nil {
		return false, err
	}
	if ok && Equal(have, want) {
		return false, nil
	}
	writeErr := c.replace(want)
	if writeErr != nil && !errors.Is(writeErr, unix.ENOBUFS) {
		return false, fmt.Errorf("replace table %s: %w", want.Name, writeErr)
	}
	// Acknowledgements that were lost (ENOBUFS) say nothing of the transaction, and a
	// table that reads back as another would be replaced for ever: so, look.
	have, ok, err = c.observe(want.Name)
	if err != nil {
		return false, errors.Join(writeErr, err)
	}
	if !ok || !Equal(have, want) {
		return writeErr == nil, errors.Join(writeErr, fmt.Errorf("table %s reads back as another than was written, or somebody changed it at once; it is now:\n%s", want.Name, have))
	}
	return true, nil
}

// Delete removes the table and all in it; that there is none is success.
func (c *Conn) Delete(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete table %s: %w", name, err)
	}
	return nil
}

// Counter is what the rules of one chain with one comment have counted since
// the table was last replaced.
type Counter struct {
	Chain, Comment string
	Packets, Bytes uint64
}

// Counters returns the counters of the table, those with the same chain and
// comment added up, in the order of the rules. No table: none.
func (c *Conn) Counters(name string) ([]Counter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _, err := c.read(name)
	if err != nil {
		return nil, err
	}
	return r.counters(), nil
}

func (t reading) counters() []Counter {
	var out []Counter
	index := map[[2]string]int{}
	for _, r := range t.rules {
		if f := decode(t.resolve(r.steps), r.comment); !f.counter {
			continue // an unknown rule's counter would pass for ours
		}
		key := [2]string{r.chain, r.comment}
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, Counter{Chain: r.chain, Comment: r.comment})
		}
		out[i].Packets += r.packets
		out[i].Bytes += r.bytes
	}
	return out
}
