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
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/types/key"

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

// TestServeWithPeers runs a tailnet whose peers are in its own process, with credentials from before, and reaches what
// they route from a node on a kernel TUN.
func TestServeWithPeers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	w, err := world.New(ctx, "tnp")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	oauth := tailnet.NewOAuthClient()
	t.Setenv(oauthIDEnv, oauth.ID)
	t.Setenv(oauthSecretEnv, oauth.Secret)
	machine, err := key.NewMachine().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(machineKeyEnv, string(machine))
	local := func(port uint16) string { return "http://" + netip.AddrPortFrom(w.Core.V4, port).String() }
	keyFile, ready := filepath.Join(t.TempDir(), "key"), netip.AddrPortFrom(w.Core.V4, 9000).String()
	lines := command(ctx, t, w.Core, 6, "serve", "--addr", w.Core.V4.String(), "--told", "192.0.2.1", "--key-file", keyFile, "--auto-approve", "--ready", ready,
		"--peer", "web", "--peer", "router=10.20.0.0/24,fd20:20::/64", "--peer", "out=exit")
	want := []string{
		"PEER=web 100.64.0.1 fd7a:115c:a1e0:ab12:4843:cd96:6240:1", "PEER=router 100.64.0.2 fd7a:115c:a1e0:ab12:4843:cd96:6240:2", "PEER=out 100.64.0.3 fd7a:115c:a1e0:ab12:4843:cd96:6240:3",
	}
	want = append([]string{"CONTROL=http://192.0.2.1:8080", "API=http://192.0.2.1:8081", "ADMIN=http://127.0.0.1:8082"}, want...)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Fatalf("what serve says (-want +got):\n%s", diff)
	}
	h, err := w.AddHost("member")
	if err != nil {
		t.Fatal(err)
	}
	command(ctx, t, h, 1, "peer", "--name", "member", "--control", local(8080), "--key-file", keyFile,
		"--accept-routes", "--use-exit-node", "out", "--steer", "10.20.0.0/24,fd20:20::/64,198.51.100.0/24")
	c := &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}
	for url, via := range map[string]string{
		"http://100.64.0.1/": "web", "http://[fd7a:115c:a1e0:ab12:4843:cd96:6240:1]/": "web",
		"http://10.20.0.10/": "router", "http://[fd20:20::10]/": "router", "http://198.51.100.7/": "out",
	} {
		if got := get(ctx, t, c, url); !strings.HasSuffix(got, " via="+via+"\n") {
			t.Errorf("%s: %q, want it by way of %s", url, got, via)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		echoes(ctx, t, h, network, "10.20.0.10:7")
	}
	// The credential that was there before is the one in force.
	form := url.Values{"client_id": {oauth.ID}, "client_secret": {oauth.Secret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, local(8081)+"/api/v2/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	c = &http.Client{Transport: &http.Transport{DialContext: w.Core.Dial, DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the credential that was given is answered with %s", res.Status)
	}
	if got := get(ctx, t, c, "http://"+ready); got != "ok\n" {
		t.Errorf("--ready answers %q", got)
	}
}

// get asks until there is an answer: routes and exit nodes arrive a moment after the node is up.
func get(ctx context.Context, t *testing.T, c *http.Client, url string) string {
	t.Helper()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		body, err := getOnce(ctx, c, url)
		if err == nil {
			return body
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func getOnce(ctx context.Context, c *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// echoes sends a word and expects it back.
func echoes(ctx context.Context, t *testing.T, h *world.Host, network, addr string) {
	t.Helper()
	c, err := h.Dial(ctx, network, addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	buf := make([]byte, 4)
	_ = c.SetDeadline(deadline)
	if _, err := c.Write([]byte("word")); err != nil {
		t.Errorf("%s %s: %v", network, addr, err)
	}
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "word" {
		t.Errorf("%s %s echoes %q, %v", network, addr, buf, err)
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
		{"fly", `"fly" is not a command of tailnet; use serve, peer, organization or help`},
		{"serve x", `serve takes flags only, not "x"`},
		{"serve --addr x", `--addr "x" is not an IP address`},
		{"serve --told x", `--told "x" is not an IP address`},
		{"serve --peer r=10.1.2.3/8", `invalid value "r=10.1.2.3/8" for flag -peer: peer r: "10.1.2.3/8" is neither "exit" nor a prefix, as in 10.20.0.0/24`},
		{"serve --peer =exit", `invalid value "=exit" for flag -peer: peer "=exit" has no name`},
		{"peer", "--name is missing: the node needs a hostname"},
		{"peer --name a", `--control is missing: give the URL that "tailnet serve" printed as CONTROL`},
		{"peer --name a --control http://x --role boss", `role "boss" is not known; use peer, subnet-router, exit-node, 4via6, app-connector or host`},
		{"peer --name a --control http://x --role subnet-router", "role subnet-router needs --routes, as in --routes 10.1.0.0/16"},
		{"peer --name a --routes 10.1.2.3/8", `--routes: "10.1.2.3/8" is not a prefix, as in 10.1.0.0/16`},
		{"peer --name a --via 7", `--via: 4via6 route "7": write a site number, a colon and an IPv4 prefix, as in "7:10.1.0.0/16"`},
		{"organization x", `organization takes flags only, not "x"`},
		{"organization --addr x", `--addr "x" is not an IP address`},
		{"organization --control-port 0", "--control-port 0 is no port: it is told to nodes before there is a tailnet, so name one from 1 to 65535"},
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
