//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/tailnet"
)

const serveUsage = `Usage: tailnet serve [flags]

Runs a tailnet until interrupted. Prints, one a line: CONTROL=, API=, ADMIN= (URLs), KEY= (a
reusable auth key; not printed with --key-file), OAUTH_CLIENT_ID= and OAUTH_CLIENT_SECRET=.

The admin address speaks JSON:

  GET    /nodes                      who is there
  DELETE /nodes/NAME                 delete a node
  POST   /nodes/NAME/expire          expire its key
  PUT    /nodes/NAME/routes          approve exactly these: ["10.1.0.0/16", "0.0.0.0/0"]
  PUT    /nodes/NAME/attrs/ATTR      set a node attribute, values: [{...}] or []
  GET    /keys                       auth keys
  POST   /keys                       make one: {"Tags": ["tag:x"], "Reusable": true, "ExpirySeconds": 60}
  DELETE /keys/ID                    revoke one
  PUT    /grants                     [{"src": ["tag:a"], "dst": ["10.1.0.0/16"], "ip": ["tcp:443"]}]
  PUT    /dns                        {"SplitRoutes": {"corp.example": ["10.1.0.53:53"]}}
  POST   /freeze, /thaw              the control plane answers nothing; again
  POST   /refuse/CODE                it answers every request with CODE; 0: serves again
  POST   /faults                     {"Method": "POST", "Path": "/api/v2/tailnet/*/keys", "Code": 429, "Times": 2}
  DELETE /faults                     the API works again

Flags:
`

type serveFlags struct {
	addr, admin, keyFile, tags, ownTags, domain string
	control, derp, stun, api                    int
	approve, verbose                            bool
}

func parseServe(args []string, out io.Writer) (serveFlags, error) {
	var f serveFlags
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = io.WriteString(out, serveUsage)
		fs.PrintDefaults()
	}
	fs.StringVar(&f.addr, "addr", "127.0.0.1", "`address` that all services listen on and nodes are told")
	fs.StringVar(&f.admin, "admin", "127.0.0.1:8082", "`address` of the admin interface")
	fs.IntVar(&f.control, "control-port", 8080, "TCP `port` of the control plane; 0: any")
	fs.IntVar(&f.api, "api-port", 8081, "TCP `port` of the HTTP API v2; 0: any")
	fs.IntVar(&f.derp, "derp-port", 0, "TCP `port` of the DERP relay; 0: any")
	fs.IntVar(&f.stun, "stun-port", 0, "UDP `port` of the STUN server; 0: any")
	fs.StringVar(&f.keyFile, "key-file", "", "write the auth key to this `file` (0600) and do not print it")
	fs.StringVar(&f.tags, "tags", "", "`tags` of the auth key and of the OAuth client, as in tag:a,tag:b")
	fs.StringVar(&f.ownTags, "own-tags", "", "`tags` that the OAuth client may give keys beside its own")
	fs.StringVar(&f.domain, "domain", "tail.test", "MagicDNS `domain`")
	fs.BoolVar(&f.approve, "auto-approve", false, "approve every route that a node advertises")
	fs.BoolVar(&f.verbose, "verbose", false, "log what nodes ask for")
	if err := fs.Parse(args); err != nil {
		return f, err
	}
	if fs.NArg() > 0 {
		return f, fmt.Errorf("serve takes flags only, not %q", fs.Arg(0))
	}
	return f, nil
}

func serve(ctx context.Context, args []string, out io.Writer) error {
	f, err := parseServe(args, out)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(f.addr)
	if err != nil {
		return fmt.Errorf("--addr %q is not an IP address", f.addr)
	}
	opts := tailnet.Options{
		Addr: addr, Domain: f.domain, AutoApprove: f.approve,
		ControlPort: f.control, APIPort: f.api, DERPPort: f.derp, STUNPort: f.stun,
	}
	if f.verbose {
		opts.Logf = func(format string, args ...any) { slog.Info(fmt.Sprintf(format, args...)) }
	}
	tn, err := tailnet.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer tn.Close()
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", f.admin)
	if err != nil {
		return fmt.Errorf("serve admin interface: %w", err)
	}
	srv := &http.Server{Handler: adminHandler(tn), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := announce(tn, f, ln.Addr(), out); err != nil {
		return err
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin interface: %w", err)
	}
	return nil
}

// announce makes the first credentials and tells them.
func announce(tn *tailnet.Tailnet, f serveFlags, admin net.Addr, out io.Writer) error {
	k := tn.CreateKey(tailnet.KeyOptions{Tags: list(f.tags), Reusable: true, Preauthorized: true})
	oauth := tn.CreateOAuthClient(tailnet.OAuthOptions{Tags: list(f.tags), Owns: list(f.ownTags)})
	keyLine := "KEY=" + k.Secret + "\n"
	if f.keyFile != "" {
		keyLine = ""
		if err := os.WriteFile(f.keyFile, []byte(k.Secret+"\n"), 0o600); err != nil {
			return fmt.Errorf("write auth key: %w", err)
		}
	}
	_, err := fmt.Fprintf(out, "CONTROL=%s\nAPI=%s\nADMIN=http://%s\n%sOAUTH_CLIENT_ID=%s\nOAUTH_CLIENT_SECRET=%s\n",
		tn.ControlURL(), tn.APIURL(), admin, keyLine, oauth.ID, oauth.Secret)
	return err
}

// list splits at commas; "" is no entry.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
