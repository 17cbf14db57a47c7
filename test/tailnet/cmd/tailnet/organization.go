//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"

	"github.com/rajsinghtech/tailgate/test/tailnet"
)

const organizationUsage = `Usage: tailnet organization [flags]

Runs what makes tailnets: an organization's API, as Tailscale's Tailnets API, and the control plane of the one tailnet that it has
room for. Prints, one a line: CONTROL= and API= (URLs), and OAUTH_CLIENT_ID= and OAUTH_CLIENT_SECRET= unless these were
given in $TAILNET_OAUTH_CLIENT_ID and $TAILNET_OAUTH_CLIENT_SECRET. Tests that want a tailnet of an organization take them as

  TS_API_URL, TS_LOGIN_SERVER, TS_ORG_OAUTH_CLIENT_ID, TS_ORG_OAUTH_CLIENT_SECRET

Flags:
`

func organization(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("organization", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = io.WriteString(out, organizationUsage)
		fs.PrintDefaults()
	}
	addr := fs.String("addr", "127.0.0.1", "`address` that all services listen on")
	control := fs.Int("control-port", 8080, "TCP `port` of the control plane")
	api := fs.Int("api-port", 8081, "TCP `port` of the HTTP API v2; 0: any")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("organization takes flags only, not %q", fs.Arg(0))
	}
	o := tailnet.Options{ControlPort: *control, APIPort: *api}
	var err error
	if o.Addr, err = netip.ParseAddr(*addr); err != nil {
		return fmt.Errorf("--addr %q is not an IP address", *addr)
	}
	if *control < 1 || *control > 65535 {
		return fmt.Errorf("--control-port %d is no port: it is told to nodes before there is a tailnet, so name one from 1 to 65535", *control)
	}
	known, err := clientFromEnv()
	if err != nil {
		return err
	}
	c := known
	if c == (tailnet.OAuthClient{}) {
		c = tailnet.NewOAuthClient()
	}
	g, err := tailnet.StartOrganization(ctx, o, c)
	if err != nil {
		return err
	}
	defer g.Close()
	text := fmt.Sprintf("CONTROL=http://%s\nAPI=%s\n", netip.AddrPortFrom(o.Addr, uint16(*control)), g.APIURL())
	if known != c {
		text += fmt.Sprintf("OAUTH_CLIENT_ID=%s\nOAUTH_CLIENT_SECRET=%s\n", c.ID, c.Secret)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
