//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// playOn is what a demo that ends says of itself.
const playOn = `
To play on: go tool task demo -- --keep leaves all of it up, and tells how to look around with kubectl and by the
gateways' and agents' pages. go tool task demo:netns shows the gateway alone.
`

// showAround says what there is, and how to look at it.
func (d *demo) showAround(ctx context.Context, out io.Writer) {
	n := d.Rig.Nodes
	kubectl := []struct{ args, what string }{
		{"get eg -o wide", ""},
		{"get egw -A", ""},
		{"describe eg payments", ""},
		{"get pods -A -o wide", ""},
		{fmt.Sprintf("exec -n payments deploy/payments -- get http://%v/", n[rig.Plain].Tail4), "the peer sees the gateway of the pod's node"},
		{fmt.Sprintf("exec -n payments deploy/payments -- get http://%v/", d.Rig.Internet.V4), fmt.Sprintf("the internet sees exit-fra1, %v", n[rig.ExitA].V4)},
		{fmt.Sprintf("exec -n payments outsider -- get http://%v/", d.Rig.Internet.V4), "and this pod as it is"},
		{"label -n payments pod outsider tailgate.dev/egress=true", "now it is a member"},
		{"scale -n payments deploy/payments --replicas=50", ""},
		{"logs -n tailgate-system daemonset/tailgate-agent", ""},
	}
	fmt.Fprintf(out, `
Everything is still up. In another terminal, as root and in this folder, after

  k="go tool task lab:kubectl -- --name=%s"

try:

`, labName)
	for _, c := range kubectl {
		fmt.Fprintf(out, "  %-70s  %s\n", "$k "+c.args, c.what)
	}
	fmt.Fprintf(out, "  %-70s  %s\n", "go tool task lab:shell -- --name="+labName+" n1", "a shell in a node")
	fmt.Fprintln(out, "\nPages, which in the cluster listen on loopback addresses only, for a browser on this machine:")
	fmt.Fprintln(out)
	for _, p := range []struct {
		what string
		dial func(context.Context) (net.Conn, error)
	}{
		{"the gateway of payments on n1", d.dialGateway},
		{"the agent on n1", d.dialAgent},
	} {
		url, err := forward(ctx, p.dial)
		if err != nil {
			url = err.Error()
		}
		fmt.Fprintf(out, "  %s    %s\n", url, p.what)
	}
	fmt.Fprintln(out, "\nCtrl-C ends it all.")
}

// Where the pages are, in the network namespaces of gateway and node.
var (
	gatewayPages = netip.MustParseAddrPort("127.0.0.1:9001")
	agentPages   = netip.MustParseAddrPort("127.0.0.1:9004")
)

// dialGateway connects to the pages of whichever gateway payments has on n1 at the time.
func (d *demo) dialGateway(ctx context.Context) (net.Conn, error) {
	pods, err := d.gatewayPods(ctx, payments)
	if err != nil {
		return nil, err
	}
	p := pods[n1]
	ns, err := d.Lab.PodNetNS(ctx, &p)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return dialIn(ctx, ns, gatewayPages)
}

func (d *demo) dialAgent(ctx context.Context) (net.Conn, error) {
	n, err := d.Lab.Node(n1)
	if err != nil {
		return nil, err
	}
	ns, err := n.NetNS(ctx)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return dialIn(ctx, ns, agentPages)
}

func dialIn(ctx context.Context, ns *netns.Handle, to netip.AddrPort) (conn net.Conn, err error) {
	err = ns.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", to.String())
		return err
	})
	return conn, err
}

// forward serves on this machine's loopback address, until ctx ends, what dial connects to.
func forward(ctx context.Context, dial func(context.Context) (net.Conn, error)) (url string, err error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go join(ctx, c, dial)
			}
		}
	}()
	return fmt.Sprintf("http://%v/debug/", ln.Addr()), nil
}

// join connects a caller to what dial connects to; whoever ends first ends both.
func join(ctx context.Context, c net.Conn, dial func(context.Context) (net.Conn, error)) {
	defer c.Close()
	far, err := dial(ctx)
	if err != nil {
		return // the caller sees that nobody answers
	}
	defer far.Close()
	go func() {
		defer c.Close()
		defer far.Close()
		_, _ = io.Copy(far, c)
	}()
	_, _ = io.Copy(c, far)
}
