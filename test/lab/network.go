package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Network is the network that the nodes of a lab share with its control plane and with hosts that tests
// attach. Nodes, pods and hosts reach each other in it by their own addresses; the control plane
// routes for what is not on it.
type Network struct{ l *Lab }

// Network returns the lab's.
func (l *Lab) Network() *Network { return &Network{l: l} }

// Handle is the control plane's network namespace, which has the bridge; it stays the lab's.
func (n *Network) Handle() *netns.Handle { return n.l.core }

// Dial connects from the control plane's namespace. addr is an IP and a port: looking a name up
// would happen elsewhere.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial in the lab's network: %q is not IP:port", addr)
	}
	var conn net.Conn
	err := n.l.core.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens in the control plane's namespace, where pods reach it by [Plan.ControlPlane]. A name
// server that listens there on port 53, UDP and TCP, is the one that CoreDNS asks about other zones.
func (n *Network) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	var ln net.Listener
	err := n.l.core.Do(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(ctx, network, addr)
		return err
	})
	return ln, err
}

// ListenPacket is [Network.Listen] for packets.
func (n *Network) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	var pc net.PacketConn
	err := n.l.core.Do(func() (err error) {
		pc, err = new(net.ListenConfig).ListenPacket(ctx, network, addr)
		return err
	})
	return pc, err
}

// Attachment is a namespace's place on the network.
type Attachment struct {
	// Addrs are its addresses there, one a family of the lab, IPv4 first.
	Addrs []netip.Addr

	n      *Network
	port   string
	behind []netip.Prefix
}

// V4 returns the address of that family; the zero value when the lab has none.
func (a *Attachment) V4() netip.Addr { return pick(a.Addrs, netip.Addr.Is4) }

// V6 is as V4.
func (a *Attachment) V6() netip.Addr { return pick(a.Addrs, netip.Addr.Is6) }

func pick(addrs []netip.Addr, is func(netip.Addr) bool) netip.Addr {
	for _, a := range addrs {
		if is(a) {
			return a
		}
	}
	return netip.Addr{}
}

// Attach connects a network namespace of the caller's to the network, by a link of that name with a free
// address of each family. Nodes and pods reach it, and it reaches them, by their own addresses; prefixes of
// behind are reached by way of it, if they are of a family that the lab has. It ends with the namespace, with the
// lab, or by [Attachment.Detach].
func (n *Network) Attach(ns *netns.Handle, link string, behind ...netip.Prefix) (*Attachment, error) {
	for i := 0; ; i++ {
		addrs, ok := n.l.Plan.Host(i)
		if !ok {
			return nil, fmt.Errorf("attach to lab %s: no address is free", n.l.Options.Name)
		}
		a := &Attachment{Addrs: addrs, n: n, port: fmt.Sprintf("host%d", i)}
		// The kernel knows which places are taken: the port's name is there once.
		err := n.l.addPort(a.port, ns, link, addrs)
		if errors.Is(err, unix.EEXIST) && n.taken(a.port) {
			continue
		}
		if err == nil {
			err = errors.Join(ns.Do(func() error { return n.l.podRoutes("") }), a.route(behind))
		}
		if err != nil {
			return nil, fmt.Errorf("attach to lab %s: %w", n.l.Options.Name, errors.Join(err, a.Detach()))
		}
		return a, nil
	}
}

// taken is whether a port is there, and its other end as well as its master are another's.
func (n *Network) taken(port string) bool {
	err := n.l.core.Do(func() error {
		_, err := netlink.LinkByName(port)
		return err
	})
	return err == nil
}

// route makes the control plane route what is behind the attachment to it.
func (a *Attachment) route(behind []netip.Prefix) error {
	for _, p := range behind {
		via := a.V4()
		if p.Addr().Is6() {
			via = a.V6()
		}
		if !via.IsValid() {
			continue
		}
		if err := a.n.l.core.Do(func() error { return addRoute(p, via) }); err != nil {
			return err
		}
		a.behind = append(a.behind, p)
	}
	return nil
}

// Detach undoes [Network.Attach].
func (a *Attachment) Detach() error {
	err := a.n.l.core.Do(func() error {
		for _, p := range a.behind {
			if err := netlink.RouteDel(&netlink.Route{Dst: ipnet(p)}); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route %v: %w", p, err)
			}
		}
		return nil
	})
	return errors.Join(err, a.n.l.removePort(a.port))
}

// Cmd is a program that runs in the control plane's network namespace. Only its own methods start it there.
type Cmd struct {
	*exec.Cmd
	n *Network
}

// Command prepares a program to run in the control plane's network namespace, with KUBECONFIG set. It ends with the
// lab at the latest.
func (n *Network) Command(ctx context.Context, path string, args ...string) *Cmd {
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append(c.Environ(), "KUBECONFIG="+n.l.Kubeconfig(), machine.MarkVar+"="+n.l.dir)
	return &Cmd{Cmd: c, n: n}
}

// Run runs the program and waits for it.
func (c *Cmd) Run() error { return c.n.l.core.Do(c.Cmd.Run) }

// Output runs the program and returns what it printed; the error has what it complained of.
func (c *Cmd) Output() ([]byte, error) {
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%w: %s", err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), nil
}
