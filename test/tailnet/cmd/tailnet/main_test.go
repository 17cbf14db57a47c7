//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// asMain makes this binary behave as the command.
const asMain = "TAILNET_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command starts the command in h and returns its first lines.
func command(ctx context.Context, t *testing.T, h *world.Host, lines int, args ...string) (out []string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := h.Command(ctx, "/proc/self/exe", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asMain+"=1"), w, os.Stderr
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(r); len(out) < lines && s.Scan(); {
		out = append(out, s.Text())
	}
	if len(out) < lines {
		t.Fatalf("tailnet %s said only %q", strings.Join(args, " "), out)
	}
	return out
}

func TestServeAndPeers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	w, err := world.New(ctx, "tnc")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	keyFile := filepath.Join(t.TempDir(), "key")
	lines := command(ctx, t, w.Core, 5, "serve", "--addr", w.Core.V4.String(), "--key-file", keyFile, "--tags", "tag:x")
	var names []string
	for _, l := range lines {
		name, _, _ := strings.Cut(l, "=")
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"CONTROL", "API", "ADMIN", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"}, names); diff != "" {
		t.Fatalf("what serve says (-want +got):\n%s", diff)
	}
	if fi, err := os.Stat(keyFile); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", fi, err)
	}
	control, admin := strings.TrimPrefix(lines[0], "CONTROL="), strings.TrimPrefix(lines[2], "ADMIN=")
	ready := map[string]peer.Ready{}
	for _, name := range []string{"a", "b"} {
		h, err := w.AddHost(name)
		if err != nil {
			t.Fatal(err)
		}
		var r peer.Ready
		line := command(ctx, t, h, 1, "peer", "--name", name, "--control", control, "--key-file", keyFile)[0]
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ready[name] = r
	}
	if out, err := w.Host("a").Command(ctx, "ping", "-n", "-c", "1", "-W", "10", ready["b"].V6.String()).CombinedOutput(); err != nil {
		t.Errorf("ping: %v\n%s", err, out)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: w.Core.Dial, DisableKeepAlives: true}}
	var nodes []tailnet.Node
	call(t, c, "GET", admin+"/nodes", "", &nodes)
	if len(nodes) != 2 || nodes[0].Name != "a" || !cmp.Equal(nodes[1].Tags, []string{"tag:x"}) {
		t.Errorf("nodes: %+v", nodes)
	}
	call(t, c, "PUT", admin+"/nodes/a/attrs/tailscale.com/app-connectors", `[{"name":"x"}]`, nil)
	call(t, c, "DELETE", admin+"/nodes/b", "", nil)
	call(t, c, "GET", admin+"/nodes", "", &nodes)
	if len(nodes) != 1 {
		t.Errorf("nodes after the deletion: %+v", nodes)
	}
}

// call makes an admin request that is to succeed.
func call(t *testing.T, c *http.Client, method, url, body string, v any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v %s, %v", method, url, res.Status, b, err)
	}
	if v != nil {
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdminRefuses(t *testing.T) {
	tn, err := tailnet.Start(t.Context(), tailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tn.Close()
	h := adminHandler(tn)
	for _, tt := range []struct{ method, path, body, want string }{
		{"DELETE", "/nodes/x", "", `no node is called "x"`},
		{"POST", "/nodes/x/expire", "", `no node is called "x"`},
		{"PUT", "/nodes/x/routes", `["10.0.0.0/8"]`, `approve routes: no node is called "x"`},
		{"POST", "/refuse/200", "", `"200" is no HTTP error; use 400 to 599, or 0 to serve again`},
		{"DELETE", "/keys/x", "", `no key in force has the ID "x"`},
		{"POST", "/keys", `{"Tag":"x"}`, `request body: json: unknown field "Tag"`},
		{"PUT", "/grants", `[{"src":["*"],"dst":["*"]}]`, `grant 1: src, dst and ip must each have an entry; write "*" for any`},
	} {
		rec := &recorder{header: http.Header{}}
		req, err := http.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		h.ServeHTTP(rec, req)
		if got := strings.TrimSpace(rec.body.String()); rec.code != http.StatusBadRequest || got != tt.want {
			t.Errorf("%s %s: %d %q, want %q", tt.method, tt.path, rec.code, got, tt.want)
		}
	}
}

// recorder is an [http.ResponseWriter] that remembers.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestArguments(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"fly", `"fly" is not a command of tailnet; use serve, peer or help`},
		{"serve x", `serve takes flags only, not "x"`},
		{"serve --addr x", `--addr "x" is not an IP address`},
		{"peer", "--name is missing: the node needs a hostname"},
		{"peer --name a", `--control is missing: give the URL that "tailnet serve" printed as CONTROL`},
		{"peer --name a --control http://x --role boss", `role "boss" is not known; use peer, subnet-router, exit-node, 4via6, app-connector or host`},
		{"peer --name a --control http://x --role subnet-router", "role subnet-router needs --routes, as in --routes 10.1.0.0/16"},
		{"peer --name a --routes 10.1.2.3/8", `--routes: "10.1.2.3/8" is not a prefix, as in 10.1.0.0/16`},
		{"peer --name a --via 7", `--via: 4via6 route "7": write a site number, a colon and an IPv4 prefix, as in "7:10.1.0.0/16"`},
		{"serve -h", flag.ErrHelp.Error()},
	} {
		t.Run(tt.args, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(tt.args), io.Discard)
			if got := fmt.Sprint(err); got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
		})
	}
}
