//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

// keyEnv holds an auth key for those who do not want a file.
const keyEnv = "TAILNET_AUTHKEY"

const peerUsage = `Usage: tailnet peer --name NAME --control URL [--key-file FILE] [--role ROLE]... [flags]

Runs a node on a kernel TUN in the present network namespace, which it takes over:
it sets forwarding, routes and nftables. Run it in a namespace made for it. The auth key is the
first line of --key-file, or $TAILNET_AUTHKEY.

It serves HTTP on 80 and HTTPS on 443 ("/" tells who asked and who answered, "/bytes?n=N" sends
N bytes), and echoes TCP and UDP on 7. Prints a line of JSON when it is up.

Roles, which may be combined:

  peer            nothing but the services
  subnet-router   routes --routes
  exit-node       routes everything
  4via6           routes --via, as in 7:10.1.0.0/16 (site 7)
  app-connector   routes what the tailnet's app connector attribute says
  host            is no node at all: only the services, for backends

Flags:
`

func runPeer(ctx context.Context, args []string, out io.Writer) error {
	c, keyFile, err := parsePeer(args, out)
	if err != nil {
		return err
	}
	if c.ControlURL != "" {
		if c.AuthKey, err = authKey(keyFile); err != nil {
			return err
		}
	}
	return peer.Run(ctx, c, out)
}

func parsePeer(args []string, out io.Writer) (c peer.Config, keyFile string, err error) {
	var roles, routes, via, steer string
	var port uint
	fs := flag.NewFlagSet("peer", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = io.WriteString(out, peerUsage)
		fs.PrintDefaults()
	}
	fs.StringVar(&c.Name, "name", "", "hostname on the tailnet")
	fs.StringVar(&c.ControlURL, "control", "", "`URL` of the control plane")
	fs.StringVar(&keyFile, "key-file", "", "`file` with the auth key")
	fs.StringVar(&roles, "role", "peer", "`roles`, separated by commas")
	fs.StringVar(&routes, "routes", "", "`prefixes` that a subnet router advertises, separated by commas")
	fs.StringVar(&via, "via", "", "4via6 `routes` as SITE:PREFIX, separated by commas")
	fs.StringVar(&c.StateDir, "state", "", "`folder` for keys and login; none: forgotten at the end")
	fs.StringVar(&c.TUN, "tun", "tailscale0", "`name` of the TUN device")
	fs.UintVar(&port, "port", 0, "UDP `port` for WireGuard; 0: any")
	fs.StringVar(&c.Socket, "socket", "", "unix socket `path` for \"tailscale --socket\"")
	fs.BoolVar(&c.AcceptRoutes, "accept-routes", false, "use other routers' subnets (see --steer)")
	fs.StringVar(&c.UseExitNode, "use-exit-node", "", "`name` of an exit node to use (see --steer)")
	fs.StringVar(&steer, "steer", "", "`prefixes` to send into the TUN beside the tailnet's own")
	fs.BoolVar(&c.Verbose, "verbose", false, "log what the engine says")
	if err := fs.Parse(args); err != nil {
		return c, "", err
	}
	if fs.NArg() > 0 {
		return c, "", fmt.Errorf("peer takes flags only, not %q", fs.Arg(0))
	}
	if port > 65535 {
		return c, "", fmt.Errorf("--port %d is above 65535", port)
	}
	c.Port = uint16(port)
	if c.Routes, err = prefixes("--routes", routes); err != nil {
		return c, "", err
	}
	if c.Steer, err = prefixes("--steer", steer); err != nil {
		return c, "", err
	}
	for _, s := range list(via) {
		v, err := peer.ParseVia(s)
		if err != nil {
			return c, "", fmt.Errorf("--via: %w", err)
		}
		c.Via = append(c.Via, v)
	}
	return c, keyFile, applyRoles(&c, list(roles))
}

// applyRoles turns roles on, and checks that they have what they need.
func applyRoles(c *peer.Config, roles []string) error {
	host := false
	for _, r := range roles {
		switch r {
		case "peer":
		case "subnet-router":
			if len(c.Routes) == 0 {
				return fmt.Errorf("role subnet-router needs --routes, as in --routes 10.1.0.0/16")
			}
		case "4via6":
			if len(c.Via) == 0 {
				return fmt.Errorf("role 4via6 needs --via, as in --via 7:10.1.0.0/16")
			}
		case "exit-node":
			c.ExitNode = true
		case "app-connector":
			c.AppConnector = true
		case "host":
			host = true
		default:
			return fmt.Errorf("role %q is not known; use peer, subnet-router, exit-node, 4via6, app-connector or host", r)
		}
	}
	switch {
	case c.Name == "":
		return fmt.Errorf("--name is missing: the node needs a hostname")
	case host && len(roles) > 1:
		return fmt.Errorf("role host is no node, and has no other role beside it")
	case host:
		c.ControlURL = ""
	case c.ControlURL == "":
		return fmt.Errorf("--control is missing: give the URL that \"tailnet serve\" printed as CONTROL")
	}
	return nil
}

func prefixes(name, s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range list(s) {
		p, err := netip.ParsePrefix(part)
		if err != nil || p != p.Masked() {
			return nil, fmt.Errorf("%s: %q is not a prefix, as in 10.1.0.0/16", name, part)
		}
		out = append(out, p)
	}
	return out, nil
}

func authKey(file string) (string, error) {
	if file == "" {
		return os.Getenv(keyEnv), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read auth key: %w", err)
	}
	key, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(key), nil
}
