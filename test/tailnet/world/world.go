//go:build linux

package world

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// The underlay: the core has the first address of each, hosts the following.
var (
	UnderlayV4 = netip.MustParsePrefix("10.99.0.0/24")
	UnderlayV6 = netip.MustParsePrefix("fd99:10:99::/64")
)

// Internet addresses of the host that [World.AddInternet] makes (RFC 5737, RFC 3849).
var (
	InternetV4 = netip.MustParsePrefix("198.51.100.7/24")
	InternetV6 = netip.MustParsePrefix("2001:db8:51::7/64")
)

// Links of hosts that join: a /30 and a /126 of these for each.
var (
	joinV4 = netip.MustParsePrefix("10.99.1.0/24")
	joinV6 = netip.MustParsePrefix("fd99:10:99:1::/64")
)

// namedDir is where ip-netns(8) looks for names.
const namedDir = "/run/netns"

// bridge is the underlay's link in the core.
const bridge = "underlay"

// World is a set of connected hosts. Its methods are safe for concurrent use.
type World struct {
	// Core routes between the underlay and what is attached to it.
	Core *Host

	prefix string
	ctx    context.Context
	stop   context.CancelFunc

	mu    sync.Mutex
	hosts []*Host
	next  int // number of the next underlay host
	joins int // how often a host has joined
	procs sync.WaitGroup
}

// New makes a world with a core. Its namespaces are called PREFIX-PID-HOST. When ctx ends, so do
// the processes in it; the namespaces stay until [World.Close].
func New(ctx context.Context, prefix string) (*World, error) {
	if prefix == "" || strings.ContainsAny(prefix, "/ ") {
		return nil, fmt.Errorf("world prefix %q: use letters, digits and dashes", prefix)
	}
	if err := sweep(prefix); err != nil {
		return nil, err
	}
	w := &World{prefix: fmt.Sprintf("%s-%d-", prefix, os.Getpid()), next: 2}
	w.ctx, w.stop = context.WithCancel(ctx)
	core, err := w.newHost("core")
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.Core = core
	if err := core.Do(setupCore); err != nil {
		return nil, errors.Join(fmt.Errorf("set up core: %w", err), w.Close())
	}
	core.addUnderlay(1)
	return w, nil
}

// AddHost makes a host on the underlay: link eth0, default routes by the core.
func (w *World) AddHost(name string) (*Host, error) {
	h, err := w.newHost(name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	n := w.next
	w.next++
	w.mu.Unlock()
	h.addUnderlay(n)
	a := End{Host: w.Core, Link: linkName("p", n)}
	b := End{Host: h, Link: "eth0", Addrs: []netip.Prefix{
		netip.PrefixFrom(h.V4, UnderlayV4.Bits()), netip.PrefixFrom(h.V6, UnderlayV6.Bits()),
	}}
	if err := w.Link(a, b); err != nil {
		return nil, err
	}
	if err := w.Core.Do(func() error { return enslave(a.Link, bridge) }); err != nil {
		return nil, fmt.Errorf("attach %s to the underlay: %w", name, err)
	}
	return h, h.defaultRoutes(w.Core.V4, w.Core.V6)
}

// AddBehind makes a host that is reached by way of router only: its link eth0 has the
// addresses given, at most one a family, and default routes to the first address of each subnet,
// which the router takes.
func (w *World) AddBehind(router *Host, name string, addrs ...netip.Prefix) (*Host, error) {
	h, err := w.newHost(name)
	if err != nil {
		return nil, err
	}
	var gateways []netip.Addr
	near := End{Host: router, Link: linkName(name, 0)}
	for _, p := range addrs {
		first := p.Masked().Addr().Next()
		gateways = append(gateways, first)
		near.Addrs = append(near.Addrs, netip.PrefixFrom(first, p.Bits()))
		if p.Addr().Is4() {
			h.V4 = p.Addr()
		} else {
			h.V6 = p.Addr()
		}
	}
	if err := w.Link(near, End{Host: h, Link: "eth0", Addrs: addrs}); err != nil {
		return nil, err
	}
	return h, h.defaultRoutes(gateways...)
}

// AddInternet makes the host "internet" behind the core, which every underlay
// host can reach, and which sees an underlay host's own address.
func (w *World) AddInternet() (*Host, error) {
	return w.AddBehind(w.Core, "internet", InternetV4, InternetV6)
}

// Adopt makes a host of a namespace that is somebody else's, such as a pod's, and stays theirs: neither the world's end
// nor anything else here closes it. It has no name for ip-netns(8); its addresses are the caller's to set.
func (w *World) Adopt(name string, ns *netns.Handle) *Host { return &Host{Name: name, w: w, ns: ns} }

// Join connects an adopted host, such as a cluster's node, to the core by a link of that name of its own. By it the host
// reaches the underlay and the internet as what it is, with its V4 and V6, and is reached at these; so are prefixes of
// behind. A family of which it has no address is left out. All of it ends with the host's namespace or with the world; a
// host that comes back with another namespace joins again.
func (w *World) Join(h *Host, link string, behind ...netip.Prefix) error {
	w.mu.Lock()
	n := 4 * w.joins
	w.joins++
	w.mu.Unlock()
	if n > 248 {
		return fmt.Errorf("join %s to the world: no address is free", h.Name)
	}
	behind = slices.Clone(behind)
	near, far := End{Host: w.Core, Link: linkName("j", n/4+1)}, End{Host: h, Link: link}
	for _, f := range []struct {
		own  netip.Addr
		net  netip.Prefix
		bits int
	}{{h.V4, joinV4, 30}, {h.V6, joinV6, 126}} {
		if f.own.IsValid() {
			near.Addrs = append(near.Addrs, netip.PrefixFrom(nth(f.net, n+1), f.bits))
			far.Addrs = append(far.Addrs, netip.PrefixFrom(nth(f.net, n+2), f.bits))
			behind = append(behind, netip.PrefixFrom(f.own, f.own.BitLen()))
		}
	}
	if err := w.Link(near, far); err != nil {
		return err
	}
	for i, p := range far.Addrs {
		own := h.V4
		if p.Addr().Is6() {
			own = h.V6
		}
		for _, dst := range []netip.Prefix{UnderlayV4, UnderlayV6, InternetV4.Masked(), InternetV6.Masked()} {
			if dst.Addr().Is4() != own.Is4() {
				continue
			}
			if err := h.addRoute(dst, near.Addrs[i].Addr(), own); err != nil {
				return err
			}
		}
		for _, dst := range behind {
			if dst.Addr().Is4() != own.Is4() {
				continue
			}
			if err := w.Core.AddRoute(dst, p.Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Host returns the host with that name, or nil.
func (w *World) Host(name string) *Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.hosts, func(h *Host) bool { return h.Name == name }); i >= 0 {
		return w.hosts[i]
	}
	return nil
}

// Close ends the processes and removes the namespaces.
func (w *World) Close() error {
	w.stop()
	w.procs.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, h := range w.hosts {
		errs = append(errs, h.ns.Close(), netns.DeleteNamed(h.NetNS()))
	}
	w.hosts = nil
	return errors.Join(errs...)
}

func (w *World) newHost(name string) (*Host, error) {
	h := &Host{Name: name, w: w}
	ns, err := netns.NewNamed(h.NetNS())
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	h.ns = ns
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	if err := h.Do(setupHost); err != nil {
		return nil, fmt.Errorf("set up host %s: %w", name, err)
	}
	return h, nil
}

// sweep removes namespaces that a process which is gone left behind.
func sweep(prefix string) error {
	entries, err := os.ReadDir(namedDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for old namespaces: %w", err)
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix+"-")
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		if err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := netns.DeleteNamed(e.Name()); err != nil {
			return fmt.Errorf("sweep old namespace: %w", err)
		}
	}
	return nil
}
