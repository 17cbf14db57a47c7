//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readyLimit bounds the wait of [Namespace.AwaitReady]: what it waits for takes the kernel a few milliseconds, unless the machine
// has far too much to do.
const readyLimit = 10 * time.Second

// AwaitReady returns when the link that is up, and if it is a veth its other end, too, can be used: what goes out by it is sent, and what comes in for
// its IPv6 addresses is taken. The kernel sees to both in work of its own, which on a busy node is done some time after it said that
// the link is up and has the addresses; until then it drops packets and tells nobody:
//
//   - The end of a veth that was set up first sends nothing before linkwatch_do_dev (net/core/link_watch.c) has activated its queue.
//     Since Linux 6.8 to ask for the link is enough to have that done.
//   - An IPv6 address has no route in table local before addrconf_dad_work (net/ipv6/addrconf.c) has put it there, with
//     duplicate address detection or without.
//
// The error wraps ErrNoLink when the link is not there, and says what is missing when that took more than ten seconds.
func (n *Namespace) AwaitReady(name string) error {
	missing, err := n.missing(name)
	if err != nil || missing == "" {
		return err
	}
	var end func()
	changed, err := n.listen(func(stop func()) func() bool {
		end = stop
		return time.AfterFunc(readyLimit, stop).Stop
	})
	if err != nil {
		return err
	}
	defer end()
	for {
		missing, err = n.missing(name)
		if err != nil || missing == "" {
			return err
		}
		if _, open := <-changed; !open {
			return fmt.Errorf("link %s cannot be used: after %v it still has no %s", name, readyLimit, missing)
		}
	}
}

// missing returns what the link has yet to get before it can be used, "" for nothing.
func (n *Namespace) missing(name string) (string, error) {
	l, err := n.linkByName(name)
	if err != nil {
		return "", fmt.Errorf("link %s: %w", name, err)
	}
	if !l.running {
		return "carrier", nil
	}
	addrs, err := n.addrsOn(l.index, map[int32]string{l.index: name}, nil)
	if err != nil {
		return "", err
	}
	local, err := n.localOn(l.index)
	if err != nil {
		return "", err
	}
	var routes []string
	for _, a := range addrs {
		if ip := a.Prefix.Addr(); ip.Is6() && !local[ip] {
			routes = append(routes, "local route to "+ip.String())
		}
	}
	return strings.Join(routes, ", "), nil
}

// localOn returns the IPv6 addresses that table local has routes of the link's to.
func (n *Namespace) localOn(index int32) (map[netip.Addr]bool, error) {
	msgs, err := n.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, header(unix.RtMsg{Family: unix.AF_INET6, Type: unix.RTN_LOCAL}),
		attr32(unix.RTA_TABLE, unix.RT_TABLE_LOCAL), attr32(unix.RTA_OIF, uint32(index)))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, nil // no such table yet, or no such link any more
	}
	if err != nil {
		return nil, fmt.Errorf("list local routes: %w", err)
	}
	local := map[netip.Addr]bool{}
	for _, b := range msgs {
		m, err := parse[unix.RtMsg](b)
		if err != nil {
			return nil, err
		}
		if dst := prefixOf(m.header.Family, m.attrs[unix.RTA_DST], m.header.Dst_len); m.header.Type == unix.RTN_LOCAL && dst.IsSingleIP() {
			local[dst.Addr()] = true
		}
	}
	return local, nil
}
