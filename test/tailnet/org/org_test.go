//go:build linux

package org_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	tsapi "tailscale.com/client/tailscale/v2"

	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/org"
	"github.com/rajsinghtech/tailgate/test/tailnet/userspace"
)

const group = "tag:egress-peers"

func TestMain(m *testing.M) {
	// Nothing phones home. Tailscale reads these when it needs them.
	for _, kv := range [][2]string{{"TS_NO_LOGS_NO_SUPPORT", "true"}, {"TS_DISABLE_PORTMAPPER", "1"}} {
		if err := os.Setenv(kv[0], kv[1]); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// start starts an organization on loopback.
func start(t *testing.T) (*tailnet.Organization, org.Options) {
	t.Helper()
	// The login server has to be known before there is a tailnet.
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	c := tailnet.NewOAuthClient()
	g, err := tailnet.StartOrganization(context.WithoutCancel(t.Context()), tailnet.Options{ControlPort: port}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, org.Options{ID: c.ID, Secret: c.Secret, APIURL: g.APIURL(), LoginServer: "http://127.0.0.1:" + strconv.Itoa(port)}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestRun is what a run does with a tailnet: it makes it, with a policy that is followed, makes keys that nodes log in with,
// and deletes it. One that a killed run left is deleted by the next.
func TestRun(t *testing.T) {
	g, o := start(t)
	ctx := limited(t)
	left, err := org.Create(ctx, o, "tailgate e2e")
	if err != nil {
		t.Fatal(err)
	}
	s, err := org.Open(ctx, o, "tailgate e2e", []string{group})
	if err != nil {
		t.Fatal(err)
	}
	if s.ID == left.ID || g.Tailnet() == nil || g.Tailnet().Domain() != s.Domain {
		t.Errorf("after %s the tailnet is %s", left.ID, s.ID)
	}
	t.Run("routes are approved", func(t *testing.T) {
		for role, want := range map[rig.Role][]netip.Prefix{
			rig.SubnetRouter: {rig.SubnetV4, rig.SubnetV6}, rig.ExitA: {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
			rig.AppConnector: {rig.AppV4},
		} {
			err := g.Tailnet().Wait(ctx, func(tn *tailnet.Tailnet) bool {
				n, _ := tn.Node(string(role))
				return !slices.ContainsFunc(want, func(p netip.Prefix) bool { return !slices.Contains(n.Approved, p) || !slices.Contains(n.Advertised, p) })
			})
			if err != nil {
				n, _ := g.Tailnet().Node(string(role))
				t.Errorf("%s advertises %v, of which %v are approved, want %v: %v", role, n.Advertised, n.Approved, want, err)
			}
		}
	})
	t.Run("the operator's credential", func(t *testing.T) { operator(t, ctx, o, s) })
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if g.Tailnet() != nil {
		t.Error("the tailnet is still there")
	}
	if err := s.Delete(ctx); err == nil {
		t.Error("a credential outlived its tailnet")
	}
}

// operator does with the operator's credential what the operator does, and has a gateway's node reach what the policy grants.
func operator(t *testing.T, ctx context.Context, o org.Options, s *org.Scene) {
	t.Helper()
	base, err := url.Parse(o.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	c := &tsapi.Client{BaseURL: base, Auth: &tsapi.OAuth{ClientID: s.OperatorID, ClientSecret: s.OperatorSecret}}
	req := tsapi.CreateKeyRequest{ExpirySeconds: 600}
	create := &req.Capabilities.Devices.Create
	create.Preauthorized, create.Tags = true, []string{"tag:node"}
	if _, err := c.Keys().CreateAuthKey(ctx, req); err == nil {
		t.Error("the operator may give a tag that is not a group's")
	}
	create.Tags = []string{group}
	key, err := c.Keys().CreateAuthKey(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	n, err := userspace.Start(ctx, userspace.Config{Name: "gateway", ControlURL: o.LoginServer, AuthKey: key.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	plain := s.Nodes[rig.Plain]
	for _, to := range []netip.Addr{plain.V4, plain.V6} {
		web := &http.Client{Transport: &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}}
		get, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(to, 80).String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := web.Do(get)
		if err != nil {
			t.Errorf("the gateway's node does not reach the peer: %v", err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.HasSuffix(string(body), "via=peer\n") {
			t.Errorf("the peer answers %q, %v", body, err)
		}
	}
}

// TestRefusals: an error says what is wrong, and none has a secret in it.
func TestRefusals(t *testing.T) {
	_, o := start(t)
	ctx := limited(t)
	tn, err := org.Create(ctx, o, "tailgate e2e")
	if err != nil {
		t.Fatal(err)
	}
	wrong := o
	wrong.Secret += "x"
	_, badSecret := org.Create(ctx, wrong, "tailgate e2e")
	_, badName := org.Create(ctx, o, "tailgate_e2e")
	_, second := org.Create(ctx, o, "tailgate other")
	_, unknownTag := tn.Key(ctx, "tag:unknown")
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"secret": {badSecret, "API token invalid"}, "name": {badName, "invalid displayName"}, "second": {second, "as many tailnets as it may"},
		"policy": {tn.SetPolicy(ctx, `{"grants":[{"src":["tag:a"],"dst":["*"],"ip":["*"],"via":["tag:b"]}]}`), "tag not found"},
		"tag":    {unknownTag, "tag:unknown"},
	} {
		if text := fmt.Sprint(tt.err); !strings.Contains(text, tt.want) || strings.Contains(text, o.Secret) {
			t.Errorf("%s: %q, want %q", name, text, tt.want)
		}
	}
}

func TestFromEnv(t *testing.T) {
	for _, tt := range []struct{ id, secret, want string }{
		{"", "", "<nil> <nil>"},
		{"k1", "", "<nil> one of $TS_ORG_OAUTH_CLIENT_ID and $TS_ORG_OAUTH_CLIENT_SECRET is set without the other; set both for a tailnet of that organization, neither for a hermetic one"},
		{"k1", "s", "&{k1 s http://api http://login} <nil>"},
	} {
		t.Setenv("TS_ORG_OAUTH_CLIENT_ID", tt.id)
		t.Setenv("TS_ORG_OAUTH_CLIENT_SECRET", tt.secret)
		t.Setenv("TS_API_URL", "http://api")
		t.Setenv("TS_LOGIN_SERVER", "http://login")
		o, err := org.FromEnv()
		if got := fmt.Sprint(o, err); got != tt.want {
			t.Errorf("with %q and %q: %s, want %s", tt.id, tt.secret, got, tt.want)
		}
	}
}
