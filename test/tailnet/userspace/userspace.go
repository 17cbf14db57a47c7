//go:build linux

package userspace

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	_ "tailscale.com/feature/appconnectors" // for [Config.AppConnector]
	"tailscale.com/ipn"
	"tailscale.com/net/tsaddr"
	"tailscale.com/tsnet"
	"tailscale.com/types/nettype"
	"tailscale.com/wgengine/netstack"

	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

// Ports of the services, as those of package peer: HTTP, and the echo of RFC 862 over TCP and UDP.
const (
	portHTTP = 80
	portEcho = 7
)

// Config says what a node is.
type Config struct {
	// Name is the hostname on the tailnet, and what HTTP answers with.
	Name string
	// ControlURL is the login server, AuthKey what logs the node in.
	ControlURL, AuthKey string
	// Routes are advertised, and answered for.
	Routes []netip.Prefix
	// ExitNode advertises the default routes, too.
	ExitNode bool
	// AppConnector offers the node as one, whose preset routes come from the tailnet's policy. It answers for these.
	AppConnector bool
	// Verbose logs what the engine says to standard error.
	Verbose bool
}

// Parse reads NAME, NAME=exit, or NAME= and prefixes with commas between them, as in
// "router=10.20.0.0/24,fd20:20::/64".
func Parse(s string) (Config, error) {
	name, routes, _ := strings.Cut(s, "=")
	c := Config{Name: name}
	if name == "" {
		return c, fmt.Errorf("peer %q has no name", s)
	}
	for r := range strings.FieldsFuncSeq(routes, func(r rune) bool { return r == ',' }) {
		if r == "exit" {
			c.ExitNode = true
			continue
		}
		p, err := netip.ParsePrefix(r)
		if err != nil || p != p.Masked() {
			return c, fmt.Errorf("peer %s: %q is neither \"exit\" nor a prefix, as in 10.20.0.0/24", name, r)
		}
		c.Routes = append(c.Routes, p)
	}
	return c, nil
}

// advertised returns all routes of the node.
func (c Config) advertised() []netip.Prefix {
	if !c.ExitNode {
		return c.Routes
	}
	return append(c.Routes[:len(c.Routes):len(c.Routes)], tsaddr.AllIPv4(), tsaddr.AllIPv6())
}

// Node is a running node.
type Node struct {
	// V4 and V6 are its tailnet addresses, ID its StableNodeID.
	V4, V6 netip.Addr
	ID     string

	srv  *tsnet.Server
	dir  string
	http *feed
}

// Start brings a node up, which forgets its keys at the end. ctx bounds the start only.
func Start(ctx context.Context, c Config) (_ *Node, err error) {
	n := &Node{http: newFeed()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("node %s: %w", c.Name, err), n.Close())
		}
	}()
	if n.dir, err = os.MkdirTemp("", "tailnet-node-"); err != nil {
		return nil, err
	}
	n.srv = &tsnet.Server{
		Dir: n.dir, Hostname: c.Name, AuthKey: c.AuthKey, ControlURL: c.ControlURL, UserLogf: func(string, ...any) {},
	}
	if c.Verbose {
		n.srv.Logf = log.Printf
	}
	n.srv.RegisterFallbackTCPHandler(n.tcp)
	web := &http.Server{Handler: peer.Handler(c.Name), ReadHeaderTimeout: time.Minute, IdleTimeout: idle}
	go func() { _ = web.Serve(n.http) }() // ends with the feed
	if err := n.srv.Start(); err != nil {
		return nil, err
	}
	// Nobody sends it anything before it has logged in.
	if ns, ok := n.srv.Sys().Netstack.Get().(*netstack.Impl); ok {
		ns.GetUDPHandlerForFlow = udp
	}
	lc, err := n.srv.LocalClient()
	if err != nil {
		return nil, err
	}
	_, err = lc.EditPrefs(ctx, &ipn.MaskedPrefs{
		Prefs:              ipn.Prefs{AdvertiseRoutes: c.advertised(), AppConnector: ipn.AppConnectorPrefs{Advertise: c.AppConnector}},
		AdvertiseRoutesSet: true, AppConnectorSet: true,
	})
	if err != nil {
		return nil, fmt.Errorf("advertise routes: %w", err)
	}
	st, err := n.srv.Up(ctx)
	if err != nil {
		return nil, err
	}
	n.ID = string(st.Self.ID)
	n.V4, n.V6 = n.srv.TailscaleIPs()
	return n, nil
}

// Dial connects from the node to another of its tailnet.
func (n *Node) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.srv.Dial(ctx, network, addr)
}

// Close ends the node. It stays in the tailnet, offline.
func (n *Node) Close() error {
	errs := []error{n.http.Close()}
	if n.srv != nil {
		errs = append(errs, n.srv.Close())
	}
	if n.dir != "" {
		errs = append(errs, os.RemoveAll(n.dir))
	}
	return errors.Join(errs...)
}

// tcp says who answers a connection, whatever its address is; nobody does on other ports.
func (n *Node) tcp(_, dst netip.AddrPort) (handler func(net.Conn), intercept bool) {
	switch dst.Port() {
	case portHTTP:
		return n.http.give, true
	case portEcho:
		return echo, true
	}
	return nil, false
}

func udp(_, dst netip.AddrPort) (handler func(nettype.ConnPacketConn), intercept bool) {
	if dst.Port() != portEcho {
		return nil, true
	}
	return func(c nettype.ConnPacketConn) { echo(c) }, true
}

// idle is how long a service waits for more, since a peer of UDP never says that it was all.
const idle = 5 * time.Minute

// echo sends everything back.
func echo(c net.Conn) {
	defer c.Close()
	for buf := make([]byte, 64<<10); ; {
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// feed is a listener that is handed its connections.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newFeed() *feed { return &feed{conns: make(chan net.Conn), closed: make(chan struct{})} }

// give hands over a connection and waits for its end: the network stack forgets an address that is not the node's own when
// the handler of its connection returns.
func (f *feed) give(c net.Conn) {
	fed := &fedConn{Conn: c, closed: make(chan struct{})}
	select {
	case f.conns <- fed:
		<-fed.closed
	case <-f.closed:
		_ = c.Close()
	}
}

// fedConn tells when it is closed.
type fedConn struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

// Close closes the connection.
func (c *fedConn) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Accept waits for the next connection.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Addr names the listener, which has no address.
func (f *feed) Addr() net.Addr { return feedAddr{} }

type feedAddr struct{}

func (feedAddr) Network() string { return "tailnet" }
func (feedAddr) String() string  { return "tailnet" }
