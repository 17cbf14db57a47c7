//go:build linux

package main

import (
	"cmp"
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

	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/userspace"
)

const serveUsage = `Usage: tailnet serve [flags]

Runs a tailnet until interrupted. Prints, one a line: CONTROL=, API=, ADMIN= (URLs), KEY= (a
reusable auth key; not printed with --key-file), OAUTH_CLIENT_ID= and OAUTH_CLIENT_SECRET= (not
printed when they were given), then PEER= with name and addresses for each --peer.

What it is told by the environment outlives it: $TAILNET_MACHINE_KEY, by which nodes know the
control plane, $TAILNET_OAUTH_CLIENT_ID and $TAILNET_OAUTH_CLIENT_SECRET.

A --peer is a node within this process: NAME, NAME=exit, or NAME= and prefixes that it routes. It
serves HTTP on 80 and echoes TCP and UDP on 7, on its own addresses and on all that it routes.

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
	addr, told, admin, ready, keyFile, tags, ownTags, domain string
	control, derp, stun, api                                 int
	approve, verbose                                         bool
	peers                                                    []userspace.Config
}

func parseServe(args []string, out io.Writer) (serveFlags, error) {
	var f serveFlags
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = io.WriteString(out, serveUsage)
		fs.PrintDefaults()
	}
	fs.StringVar(&f.addr, "addr", "127.0.0.1", "`address` that all services listen on")
	fs.StringVar(&f.told, "told", "", "`address` that nodes and callers are told, such as that of a Service; empty: --addr")
	fs.StringVar(&f.ready, "ready", "", "`address` at which HTTP answers once all is up, peers too; empty: none")
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
	fs.Func("peer", "a `node` in this process, see above; more than once for more", func(s string) error {
		p, err := userspace.Parse(s)
		f.peers = append(f.peers, p)
		return err
	})
	if err := fs.Parse(args); err != nil {
		return f, err
	}
	if fs.NArg() > 0 {
		return f, fmt.Errorf("serve takes flags only, not %q", fs.Arg(0))
	}
	return f, nil
}

// options are the tailnet's.
func (f serveFlags) options() (o tailnet.Options, err error) {
	o = tailnet.Options{
		Domain: f.domain, AutoApprove: f.approve,
		ControlPort: f.control, APIPort: f.api, DERPPort: f.derp, STUNPort: f.stun,
	}
	if o.Addr, err = netip.ParseAddr(f.addr); err != nil {
		return o, fmt.Errorf("--addr %q is not an IP address", f.addr)
	}
	if o.Told, err = netip.ParseAddr(cmp.Or(f.told, f.addr)); err != nil {
		return o, fmt.Errorf("--told %q is not an IP address", f.told)
	}
	if k := os.Getenv(machineKeyEnv); k != "" {
		if err := o.MachineKey.UnmarshalText([]byte(k)); err != nil {
			return o, fmt.Errorf("$%s is no machine key, as in \"privkey:\" and 64 digits", machineKeyEnv)
		}
	}
	if f.verbose {
		o.Logf = func(format string, args ...any) { slog.Info(fmt.Sprintf(format, args...)) }
	}
	return o, nil
}

func serve(ctx context.Context, args []string, out io.Writer) error {
	f, err := parseServe(args, out)
	if err != nil {
		return err
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	oauth, err := clientFromEnv()
	if err != nil {
		return err
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
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	if err := announce(tn, f, oauth, ln.Addr(), out); err != nil {
		return err
	}
	for _, p := range f.peers {
		n, err := startPeer(ctx, tn, f, p, out)
		if err != nil {
			return err
		}
		defer n.Close()
	}
	if err := serveReady(ctx, f.ready); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin interface: %w", err)
	}
	return nil
}

// What outlives the process; see [serveUsage].
const (
	machineKeyEnv  = "TAILNET_MACHINE_KEY"
	oauthIDEnv     = "TAILNET_OAUTH_CLIENT_ID"
	oauthSecretEnv = "TAILNET_OAUTH_CLIENT_SECRET"
)

// clientFromEnv returns the credential that was given; zero: none was.
func clientFromEnv() (c tailnet.OAuthClient, err error) {
	c.ID, c.Secret = os.Getenv(oauthIDEnv), os.Getenv(oauthSecretEnv)
	if (c.ID == "") != (c.Secret == "") {
		return c, fmt.Errorf("set both of $%s and $%s, or neither", oauthIDEnv, oauthSecretEnv)
	}
	return c, nil
}

// announce makes the first credentials and tells those that nobody has yet.
func announce(tn *tailnet.Tailnet, f serveFlags, known tailnet.OAuthClient, admin net.Addr, out io.Writer) error {
	k := tn.CreateKey(tailnet.KeyOptions{Tags: list(f.tags), Reusable: true, Preauthorized: true})
	oauth := tn.CreateOAuthClient(tailnet.OAuthOptions{Tags: list(f.tags), Owns: list(f.ownTags), Client: known})
	text := fmt.Sprintf("CONTROL=%s\nAPI=%s\nADMIN=http://%s\n", tn.ControlURL(), tn.APIURL(), admin)
	if f.keyFile == "" {
		text += "KEY=" + k.Secret + "\n"
	} else if err := os.WriteFile(f.keyFile, []byte(k.Secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write auth key: %w", err)
	}
	if known != oauth {
		text += fmt.Sprintf("OAUTH_CLIENT_ID=%s\nOAUTH_CLIENT_SECRET=%s\n", oauth.ID, oauth.Secret)
	}
	_, err := io.WriteString(out, text)
	return err
}

// peerTime bounds the start of a peer.
const peerTime = time.Minute

// startPeer brings up a node in this process. One after the other, so that each has the address that it had
// the last time. It logs in where the control plane listens, since nobody is led there from the address that others are
// told before --ready answers.
func startPeer(ctx context.Context, tn *tailnet.Tailnet, f serveFlags, c userspace.Config, out io.Writer) (*userspace.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTime)
	defer cancel()
	k := tn.CreateKey(tailnet.KeyOptions{Tags: []string{"tag:peer"}, Preauthorized: true})
	c.ControlURL, c.AuthKey, c.Verbose = tn.LocalURL(), k.Secret, f.verbose
	n, err := userspace.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.ExitNode {
		err = tn.SetNodeAttr(c.Name, tailcfg.NodeAttrSuggestExitNode)
	}
	if err == nil {
		_, err = fmt.Fprintf(out, "PEER=%s %v %v\n", c.Name, n.V4, n.V6)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// serveReady answers every request from now on.
func serveReady(ctx context.Context, addr string) error {
	if addr == "" {
		return nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("say that all is up: %w", err)
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }),
		ReadHeaderTimeout: time.Minute,
	}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() { _ = srv.Serve(ln) }() // ends with ctx
	return nil
}

// list splits at commas; "" is no entry.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
