package tailnet_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"tailscale.com/ipn/store/mem"
	"tailscale.com/tsnet"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
	hermetic "github.com/rajsinghtech/tailgate/test/tailnet"
)

// bench is a tailnet, and a client of it that tells what it does.
type bench struct {
	*testing.T
	tn     *hermetic.Tailnet
	oauth  hermetic.OAuthClient
	client *tailnet.Client

	mu       sync.Mutex
	requests []tailnet.Request
}

// grants are those of an operator as documented.
var grants = hermetic.OAuthOptions{
	Scopes: []string{"auth_keys", "devices:core"}, Tags: []string{"tag:tailgate"}, Owns: []string{"tag:egress-a", "tag:egress-b"},
}

func newBench(t *testing.T, changes ...func(*tailnet.Options)) *bench {
	t.Helper()
	// A test's context ends before its cleanups, in which nodes log out.
	tn, err := hermetic.Start(context.WithoutCancel(t.Context()), hermetic.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	b := &bench{T: t, tn: tn, oauth: tn.CreateOAuthClient(grants)}
	b.client = b.newClient(b.oauth, changes...)
	return b
}

// newClient is a client of its own with those credentials.
func (b *bench) newClient(c hermetic.OAuthClient, changes ...func(*tailnet.Options)) *tailnet.Client {
	b.Helper()
	o := tailnet.Options{
		Credentials: tailnet.Credentials{Tailnet: "-", ClientID: c.ID, ClientSecret: c.Secret},
		BaseURL:     b.tn.APIURL(), Timeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler),
		Observe: func(r tailnet.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests = append(b.requests, r)
		},
	}
	for _, change := range changes {
		change(&o)
	}
	client, err := tailnet.New(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client
}

// took returns the requests since the last call as "op" or "op reason", in the order of their ends.
func (b *bench) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, r := range b.requests {
		s := r.Op
		if r.Reason != "" {
			s += " " + string(r.Reason)
		}
		out = append(out, s)
	}
	b.requests = nil
	return out
}

func (b *bench) wantTook(want ...string) {
	b.Helper()
	if diff := cmp.Diff(want, b.took(), cmpopts.EquateEmpty()); diff != "" {
		b.Errorf("requests (-want +got):\n%s", diff)
	}
}

func (b *bench) fail(f hermetic.Fault) {
	b.Helper()
	if err := b.tn.Fail(f); err != nil {
		b.Fatal(err)
	}
}

// reason returns that of an error of this package, which every error has to be; "" for nil.
func reason(t *testing.T, err error) tailnet.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*tailnet.Error](err)
	if !ok {
		t.Fatalf("%v (%T) is no *tailnet.Error", err, err)
	}
	return e.Reason
}

var keyRequest = tailnet.KeyRequest{Tags: []string{"tag:egress-b", "tag:egress-a", "tag:egress-b"}, Lifetime: 24 * time.Hour, Description: "tailgate 1234 a"}

func TestKeys(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	k, err := b.client.MintKey(ctx, keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	keys := b.tn.Keys()
	if len(keys) != 1 {
		t.Fatalf("the tailnet has the keys %v", keys)
	}
	want := hermetic.KeyOptions{
		Tags: []string{"tag:egress-a", "tag:egress-b"}, Reusable: true, Preauthorized: true,
		Description: "tailgate 1234 a",
	}
	if diff := cmp.Diff(want, keys[0].KeyOptions, cmpopts.IgnoreFields(want, "Expiry")); diff != "" {
		t.Errorf("key as minted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tailnet.Key{ID: keys[0].ID, Key: keys[0].Secret, Created: keys[0].Created.UTC().Truncate(time.Second), Expires: keys[0].Expires.UTC().Truncate(time.Second)}, k); diff != "" {
		t.Errorf("key as told (-want +got):\n%s", diff)
	}
	if life := k.Expires.Sub(k.Created); life != 24*time.Hour {
		t.Errorf("the key lasts %v", life)
	}
	b.wantTook("token", "mint_key")
	for range 2 {
		if err := b.client.RevokeKey(ctx, k.ID); err != nil {
			t.Error(err)
		}
	}
	if err := b.client.RevokeKey(ctx, "kNeverThereCNTRL"); err != nil {
		t.Error(err)
	}
	if b.tn.Keys()[0].Valid() {
		t.Error("the key is still good")
	}
	b.wantTook("revoke_key", "revoke_key NotFound", "list_keys", "revoke_key NotFound", "list_keys")
}

func TestDevices(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	k, err := b.client.MintKey(ctx, tailnet.KeyRequest{Tags: []string{"tag:egress-a"}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	login(t, b.tn, "gw", k.Key)
	n, _ := b.tn.Node("gw")
	id := string(n.StableID)
	if err := b.client.SetTags(ctx, id, []string{"tag:egress-b", "tag:egress-a"}); err != nil {
		t.Error(err)
	}
	if n, _ = b.tn.Node("gw"); !slices.Equal(n.Tags, []string{"tag:egress-a", "tag:egress-b"}) {
		t.Errorf("the device has the tags %q", n.Tags)
	}
	b.took()
	for _, either := range []string{id, strconv.FormatInt(int64(n.ID), 10)} {
		if tags, err := b.client.DeviceTags(ctx, either); err != nil || !slices.Equal(tags, []string{"tag:egress-a", "tag:egress-b"}) {
			t.Errorf("device %s as the API has it: %q, %v", either, tags, err)
		}
	}
	b.wantTook("get_device", "get_device")
	if got := reason(t, b.client.SetTags(ctx, id, []string{"tag:mine"})); got != tailnet.TagNotOwned {
		t.Errorf("another's tag: %q", got)
	}
	for range 2 {
		if err := b.client.DeleteDevice(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if _, ok := b.tn.Node("gw"); ok {
		t.Error("the device is still there")
	}
	if got := reason(t, b.client.SetTags(ctx, id, []string{"tag:egress-a"})); got != tailnet.NotFound {
		t.Errorf("tags of an absent device: %q", got)
	}
	if _, err := b.client.DeviceTags(ctx, id); reason(t, err) != tailnet.NotFound {
		t.Errorf("a look at an absent device: %v", err)
	}
}

// login runs a node in this process, in userspace, until the test ends.
func login(t *testing.T, tn *hermetic.Tailnet, name, key string) {
	t.Helper()
	t.Setenv("TS_NO_LOGS_NO_SUPPORT", "true")
	s := &tsnet.Server{Dir: t.TempDir(), Store: new(mem.Store), Ephemeral: true, Hostname: name, ControlURL: tn.ControlURL(), AuthKey: key, UserLogf: t.Logf}
	t.Cleanup(func() { _ = s.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Up(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestBadRequests are refused before anything leaves.
func TestBadRequests(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	mint := func(tags []string, life time.Duration) error {
		_, err := b.client.MintKey(ctx, tailnet.KeyRequest{Tags: tags, Lifetime: life})
		return err
	}
	look := func(id string) error {
		_, err := b.client.DeviceTags(ctx, id)
		return err
	}
	tags := []string{"tag:egress-a"}
	for name, err := range map[string]error{
		"no tag":           mint(nil, time.Hour),
		"no life":          mint(tags, 0),
		"too long":         mint(tags, tailnet.MaxLifetime+time.Second),
		"no key":           b.client.RevokeKey(ctx, ""),
		"key elsewhere":    b.client.RevokeKey(ctx, ".."),
		"no device":        b.client.DeleteDevice(ctx, ""),
		"device elsewhere": b.client.DeleteDevice(ctx, "../tailnet"),
		"look at nobody":   look(""),
		"look elsewhere":   look("nDeviceCNTRL/routes"),
		"tags of nobody":   b.client.SetTags(ctx, "", tags),
		"no tags":          b.client.SetTags(ctx, "nDeviceCNTRL", nil),
	} {
		if got := reason(t, err); got != tailnet.Rejected {
			t.Errorf("%s: reason %q (%v)", name, got, err)
		}
	}
	b.wantTook()
}

func TestTokenIsReused(t *testing.T) {
	b := newBench(t)
	// All at once, and none has a token yet.
	all := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := b.client.DeleteDevice(t.Context(), "nDeviceCNTRL"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	all()
	count := func(what string) (n int) {
		for _, r := range b.took() {
			if r == what {
				n++
			}
		}
		return n
	}
	if n := count("token"); n != 1 {
		t.Errorf("%d tokens were fetched for the first calls", n)
	}
	b.tn.ExpireTokens()
	all()
	if n := count("token"); n != 1 {
		t.Errorf("%d tokens were fetched when the first had ended", n)
	}
	all()
	if n := count("token"); n != 0 {
		t.Errorf("%d tokens were fetched while there was one", n)
	}
}

// TestShortToken is fetched for each call: it has ended, as far as a client can be sure, when it comes.
func TestShortToken(t *testing.T) {
	b := newBench(t)
	o := grants
	o.TokenLife = time.Second
	c := b.newClient(b.tn.CreateOAuthClient(o))
	for range 2 {
		if err := c.DeleteDevice(t.Context(), "nDeviceCNTRL"); err != nil {
			t.Error(err)
		}
	}
	b.wantTook("token", "delete_device NotFound", "token", "delete_device NotFound")
}

func TestClientDeleted(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	if _, err := b.client.MintKey(ctx, keyRequest); err != nil {
		t.Fatal(err)
	}
	b.tn.DeleteOAuthClient(b.oauth.ID)
	b.took()
	_, err := b.client.MintKey(ctx, keyRequest)
	if got := reason(t, err); got != tailnet.CredentialsRefused {
		t.Errorf("deleted client: %q", got)
	}
	b.wantTook("mint_key CredentialsRefused", "token CredentialsRefused")
	again := b.newClient(b.tn.CreateOAuthClient(grants))
	k, err := again.MintKey(ctx, keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	// A key of the old client can be revoked by the new one.
	old := b.tn.Keys()[0]
	if err := again.RevokeKey(ctx, old.ID); err != nil || !old.Valid() {
		t.Errorf("revoke the old client's key: %v", err)
	}
	if keys := b.tn.Keys(); keys[0].Valid() || !keys[1].Valid() || keys[1].ID != k.ID {
		t.Errorf("keys now: %+v", keys)
	}
}

// TestPersistentRefusal ends: a token that was fetched just now and is refused is not fetched again.
func TestPersistentRefusal(t *testing.T) {
	b := newBench(t)
	b.fail(hermetic.Fault{Path: "/api/v2/tailnet/*/keys", Code: http.StatusUnauthorized})
	for range 2 {
		_, err := b.client.MintKey(t.Context(), keyRequest)
		if got := reason(t, err); got != tailnet.CredentialsRefused {
			t.Errorf("reason %q", got)
		}
		b.wantTook("token", "mint_key CredentialsRefused")
	}
}

func TestScopes(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	o := grants
	o.Scopes = []string{"devices:core"}
	devices := b.newClient(b.tn.CreateOAuthClient(o))
	o.Scopes = []string{"auth_keys"}
	keys := b.newClient(b.tn.CreateOAuthClient(o))
	if _, err := devices.MintKey(ctx, keyRequest); reason(t, err) != tailnet.PermissionDenied {
		t.Errorf("keys without the scope: %v", err)
	}
	if err := keys.DeleteDevice(ctx, "nDeviceCNTRL"); reason(t, err) != tailnet.PermissionDenied {
		t.Errorf("devices without the scope: %v", err)
	}
	if _, err := keys.MintKey(ctx, keyRequest); err != nil {
		t.Errorf("keys with the scope: %v", err)
	}
	if err := devices.DeleteDevice(ctx, "nDeviceCNTRL"); err != nil {
		t.Errorf("devices with the scope: %v", err)
	}
}

func TestWrongTailnet(t *testing.T) {
	b := newBench(t)
	wrong := b.newClient(b.oauth, func(o *tailnet.Options) { o.Tailnet = "else.test" })
	if _, err := wrong.MintKey(t.Context(), keyRequest); reason(t, err) != tailnet.TailnetNotFound {
		t.Errorf("mint: %v", err)
	}
	// Not taken for a key that is absent.
	k := b.tn.CreateKey(hermetic.KeyOptions{})
	if err := wrong.RevokeKey(t.Context(), k.ID); reason(t, err) != tailnet.TailnetNotFound {
		t.Errorf("revoke: %v", err)
	}
	right := b.newClient(b.oauth, func(o *tailnet.Options) { o.Tailnet = b.tn.Domain() })
	if err := right.RevokeKey(t.Context(), k.ID); err != nil {
		t.Error(err)
	}
}
