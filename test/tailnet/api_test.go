package tailnet_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tsapi "tailscale.com/client/tailscale/v2"
	"tailscale.com/ipn/store/mem"
	"tailscale.com/tsnet"

	"github.com/rajsinghtech/tailgate/test/tailnet"
)

// startLocal is a tailnet on loopback; it needs no root.
func startLocal(t *testing.T) *tailnet.Tailnet {
	t.Helper()
	// A test's context ends before its cleanups, in which nodes log out.
	tn, err := tailnet.Start(context.WithoutCancel(t.Context()), tailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	return tn
}

// apiClient is Tailscale's own client.
func apiClient(t *testing.T, tn *tailnet.Tailnet, c tailnet.OAuthClient) *tsapi.Client {
	t.Helper()
	base, err := url.Parse(tn.APIURL())
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &tsapi.Client{
		BaseURL: base, Auth: &tsapi.OAuth{ClientID: c.ID, ClientSecret: c.Secret},
		HTTP: &http.Client{Transport: tr, Timeout: 10 * time.Second},
	}
}

func keyRequest(tags ...string) tsapi.CreateKeyRequest {
	req := tsapi.CreateKeyRequest{ExpirySeconds: 3600, Description: "gateway"}
	create := &req.Capabilities.Devices.Create
	create.Reusable, create.Preauthorized, create.Tags = true, true, tags
	return req
}

func TestAPI(t *testing.T) {
	tn := startLocal(t)
	ctx := t.Context()
	c := apiClient(t, tn, tn.CreateOAuthClient(tailnet.OAuthOptions{Tags: []string{"tag:operator"}, Owns: []string{"tag:egress"}}))

	made, err := c.Keys().CreateAuthKey(ctx, keyRequest("tag:egress"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Keys().Get(ctx, made.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := *made
	want.Key = "" // told once
	if diff := cmp.Diff(&want, got); diff != "" || made.Expires.Sub(made.Created).Round(time.Second) != time.Hour {
		t.Errorf("key as created, and as got (-want +got):\n%s", diff)
	}

	// The key logs a node in, and its tag becomes the node's.
	login(t, tn, "n1", made.Key)
	devices, err := c.Devices().List(ctx, tsapi.WithFields(tsapi.IncludeFieldsAll), tsapi.WithFilter("tags", []string{"tag:egress"}))
	if err != nil || len(devices) != 1 {
		t.Fatalf("devices: %v, %v", devices, err)
	}
	d, err := c.Devices().GetWithAllFields(ctx, devices[0].NodeID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&devices[0], d); diff != "" {
		t.Errorf("device as listed, and as got (-want +got):\n%s", diff)
	}
	n, _ := tn.Node("n1")
	if diff := cmp.Diff([]any{"n1.tail.test", "n1", string(n.StableID), []string{"tag:egress"}, true, []string{n.Addresses[0].String(), n.Addresses[1].String()}},
		[]any{d.Name, d.Hostname, d.NodeID, d.Tags, d.ConnectedToControl, d.Addresses}); diff != "" {
		t.Errorf("device (-want +got):\n%s", diff)
	}
	routes(t, tn, c, d)

	if err := c.Devices().Delete(ctx, d.NodeID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Devices().Get(ctx, d.NodeID); !tsapi.IsNotFound(err) {
		t.Errorf("deleted device: %v", err)
	}
	if _, ok := tn.Node("n1"); ok {
		t.Error("the node of a deleted device is still there")
	}
	if err := c.Keys().Delete(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Keys().Delete(ctx, made.ID); !tsapi.IsNotFound(err) {
		t.Errorf("second deletion of a key: %v", err)
	}
	if got, err = c.Keys().Get(ctx, made.ID); err != nil || !got.Invalid || got.Revoked.IsZero() {
		t.Errorf("revoked key: %+v, %v", got, err)
	}
	if keys, err := c.Keys().List(ctx, true); err != nil || len(keys) != 0 {
		t.Errorf("keys after the revocation: %v, %v", keys, err)
	}
}

func routes(t *testing.T, tn *tailnet.Tailnet, c *tsapi.Client, d *tsapi.Device) {
	t.Helper()
	want := &tsapi.DeviceRoutes{Advertised: []string{}, Enabled: []string{"10.1.0.0/16"}}
	if err := c.Devices().SetSubnetRoutes(t.Context(), d.NodeID, want.Enabled); err != nil {
		t.Fatal(err)
	}
	got, err := c.Devices().SubnetRoutes(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if n, _ := tn.Node("n1"); !slices.Equal(n.Approved, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}) {
		t.Errorf("approved routes of the node: %v", n.Approved)
	}
}

// login runs a node in this process, in userspace, until the test ends.
func login(t *testing.T, tn *tailnet.Tailnet, name, key string) {
	t.Helper()
	t.Setenv("TS_NO_LOGS_NO_SUPPORT", "true")
	s := &tsnet.Server{Dir: t.TempDir(), Store: new(mem.Store), Ephemeral: true, Hostname: name, ControlURL: tn.ControlURL(), AuthKey: key, UserLogf: t.Logf}
	t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Up(ctx); err != nil {
		t.Fatal(err)
	}
	// What the API says of the node is settled once it has reported where it listens.
	err := tn.Wait(ctx, func(tn *tailnet.Tailnet) bool {
		n, _ := tn.Node(name)
		return n.Online && n.HomeDERP != 0 && len(n.Endpoints) > 0
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPITags(t *testing.T) {
	tn := startLocal(t)
	c := apiClient(t, tn, tn.CreateOAuthClient(tailnet.OAuthOptions{Tags: []string{"tag:a", "tag:b"}, Owns: []string{"tag:x", "tag:y"}}))
	for _, tt := range []struct {
		tags []string
		want string
	}{
		{[]string{"tag:a", "tag:b"}, ""},
		{[]string{"tag:b", "tag:a"}, ""},
		{[]string{"tag:x"}, ""},
		{[]string{"tag:y", "tag:x"}, ""},
		{[]string{"tag:a"}, "requested tags [tag:a] are invalid or not permitted (400)"},
		{[]string{"tag:x", "tag:other"}, "requested tags [tag:x tag:other] are invalid or not permitted (400)"},
		{nil, "requested tags [] are invalid or not permitted (400)"},
	} {
		_, err := c.Keys().CreateAuthKey(t.Context(), keyRequest(tt.tags...))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("key with %v: %q, want %q", tt.tags, got, tt.want)
		}
	}
}

func TestAPICredentials(t *testing.T) {
	tn := startLocal(t)
	ctx := t.Context()
	reader := tn.CreateOAuthClient(tailnet.OAuthOptions{Scopes: []string{"devices:core:read"}, TokenLife: time.Minute})
	c := apiClient(t, tn, reader)
	if _, err := c.Devices().List(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Devices().Delete(ctx, "1"); status(err) != http.StatusForbidden {
		t.Errorf("deletion without the scope: %v", err)
	}
	if _, err := c.Keys().List(ctx, false); status(err) != http.StatusForbidden {
		t.Errorf("keys without the scope: %v", err)
	}
	tn.ExpireTokens()
	if _, err := c.Devices().List(ctx); status(err) != http.StatusUnauthorized {
		t.Errorf("with an ended token: %v", err)
	}
	wrong := apiClient(t, tn, tailnet.OAuthClient{ID: reader.ID, Secret: reader.Secret + "x"})
	if _, err := wrong.Devices().List(ctx); err == nil || !strings.Contains(err.Error(), "API token invalid") {
		t.Errorf("with a wrong secret: %v", err)
	}
	other := apiClient(t, tn, reader)
	other.Tailnet = "else.test"
	if _, err := other.Devices().List(ctx); !tsapi.IsNotFound(err) {
		t.Errorf("another tailnet: %v", err)
	}
}

// status is the HTTP status inside an error of the API client, 0 for another error.
func status(err error) int {
	var apiErr tsapi.APIError
	if errors.As(err, &apiErr) {
		return apiErr.Status
	}
	return 0
}

func TestAPIFaults(t *testing.T) {
	tn := startLocal(t)
	c := apiClient(t, tn, tn.CreateOAuthClient(tailnet.OAuthOptions{}))
	list := func(ctx context.Context) error { _, err := c.Devices().List(ctx); return err }
	if err := list(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{401, 403, 404, 429, 500, 502, 503} {
		fail(t, tn, tailnet.Fault{Method: "GET", Path: "/api/v2/tailnet/*/devices", Code: code, Times: 2})
		if _, err := c.Keys().List(t.Context(), false); err != nil {
			t.Errorf("keys fail with the devices: %v", err)
		}
		for range 2 {
			if err := list(t.Context()); status(err) != code {
				t.Errorf("%d on demand: %v", code, err)
			}
		}
		if err := list(t.Context()); err != nil {
			t.Errorf("after two times %d: %v", code, err)
		}
	}
	fail(t, tn, tailnet.Fault{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := list(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging: %v", err)
	}
	tn.ClearFaults()
	if err := list(t.Context()); err != nil {
		t.Errorf("after the faults: %v", err)
	}
	if err := tn.Fail(tailnet.Fault{Path: "[", Code: 500}); err == nil {
		t.Error("a bad pattern was taken")
	}
}

func TestAPIRetryAfter(t *testing.T) {
	tn := startLocal(t)
	fail(t, tn, tailnet.Fault{Code: 429, RetryAfter: 3 * time.Second, Message: "slow down"})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tn.APIURL()+"/api/v2/device/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Retry-After"); res.StatusCode != 429 || got != "3" {
		t.Errorf("status %d, Retry-After %q", res.StatusCode, got)
	}
}

func fail(t *testing.T, tn *tailnet.Tailnet, f tailnet.Fault) {
	t.Helper()
	if err := tn.Fail(f); err != nil {
		t.Fatal(err)
	}
}

func TestAPIDeviceTags(t *testing.T) {
	tn := startLocal(t)
	ctx := t.Context()
	own := tailnet.OAuthOptions{Tags: []string{"tag:operator"}, Owns: []string{"tag:x", "tag:y"}}
	c := apiClient(t, tn, tn.CreateOAuthClient(own))
	own.Scopes = []string{"devices:core:read", "auth_keys"}
	reader := apiClient(t, tn, tn.CreateOAuthClient(own))
	login(t, tn, "n1", tn.CreateKey(tailnet.KeyOptions{Tags: []string{"tag:x"}}).Secret)
	before, _ := tn.Node("n1")
	id := string(before.StableID)
	for _, tt := range []struct {
		c    *tsapi.Client
		id   string
		tags []string
		want string   // error
		then []string // tags of the node
	}{
		{c, id, []string{"tag:y", "tag:x", "tag:y"}, "", []string{"tag:x", "tag:y"}},
		{c, id, []string{"tag:y", "tag:other"}, "requested tags [tag:y tag:other] are invalid or not permitted (400)", []string{"tag:x", "tag:y"}},
		{c, id, nil, "requested tags [] are invalid or not permitted (400)", []string{"tag:x", "tag:y"}},
		{reader, id, []string{"tag:x"}, "calling actor does not have enough permissions to perform this function (403)", []string{"tag:x", "tag:y"}},
		{c, "nNobodyCNTRL", []string{"tag:x"}, "no manageable device matching ID found (404)", []string{"tag:x", "tag:y"}},
		{c, id, []string{"tag:operator"}, "", []string{"tag:operator"}},
	} {
		got := ""
		if err := tt.c.Devices().SetTags(ctx, tt.id, tt.tags); err != nil {
			got = err.Error()
		}
		n, _ := tn.Node("n1")
		if diff := cmp.Diff(tt.then, n.Tags); diff != "" || got != tt.want {
			t.Errorf("tags %q by the API: %q, want %q; the node's (-want +got):\n%s", tt.tags, got, tt.want, diff)
		}
	}
	if d, err := c.Devices().Get(ctx, id); err != nil || !slices.Equal(d.Tags, []string{"tag:operator"}) {
		t.Errorf("the device has the tags %q (%v)", d.Tags, err)
	}
	after, _ := tn.Node("n1")
	if after.NodeKey != before.NodeKey || !after.Online {
		t.Errorf("with other tags the node has key %v and is online: %v; before %v", after.NodeKey, after.Online, before.NodeKey)
	}
}

func TestAPIClientDeleted(t *testing.T) {
	tn := startLocal(t)
	first, second := tn.CreateOAuthClient(tailnet.OAuthOptions{}), tn.CreateOAuthClient(tailnet.OAuthOptions{})
	c, other := apiClient(t, tn, first), apiClient(t, tn, second)
	list := func(c *tsapi.Client) error { _, err := c.Devices().List(t.Context()); return err }
	if err := errors.Join(list(c), list(other)); err != nil {
		t.Fatal(err)
	}
	if !tn.DeleteOAuthClient(first.ID) || tn.DeleteOAuthClient(first.ID) {
		t.Error("a client is not deleted exactly once")
	}
	if err := list(c); status(err) != http.StatusUnauthorized {
		t.Errorf("with the token of a deleted client: %v", err)
	}
	if err := list(apiClient(t, tn, first)); err == nil || !strings.Contains(err.Error(), "API token invalid") {
		t.Errorf("a new token for a deleted client: %v", err)
	}
	if err := list(other); err != nil {
		t.Errorf("another client: %v", err)
	}
}

func TestAPIFaultyBodies(t *testing.T) {
	tn := startLocal(t)
	get := func() (int, string, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tn.APIURL()+"/api/v2/device/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return res.StatusCode, res.Header.Get("Content-Type"), string(b), err
	}
	fail(t, tn, tailnet.Fault{Code: 200, Body: "<html>", ContentType: "text/html", Times: 1})
	if code, kind, body, err := get(); code != 200 || kind != "text/html" || body != "<html>" || err != nil {
		t.Errorf("page: %d %q %q %v", code, kind, body, err)
	}
	fail(t, tn, tailnet.Fault{Code: 200, Body: `{"id"`, Cut: true, Times: 1})
	if code, kind, body, err := get(); code != 200 || kind != "application/json" || body != `{"id"` || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %d %q %q %v", code, kind, body, err)
	}
}
