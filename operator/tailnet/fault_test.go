package tailnet_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
	hermetic "github.com/rajsinghtech/tailgate/test/tailnet"
)

var update = flag.Bool("update", false, "write testdata again")

const (
	keysPath   = "/api/v2/tailnet/*/keys"
	keyPath    = "/api/v2/tailnet/*/keys/*"
	devicePath = "/api/v2/device/*"
	tagsPath   = "/api/v2/device/*/tags"
	tokenPath  = "/api/v2/oauth/token"
)

// TestFaults has every failure of the API, for every call. The sentences are in testdata/errors.txt.
func TestFaults(t *testing.T) {
	calls := map[string]func(context.Context, *tailnet.Client) error{
		"mint":   func(ctx context.Context, c *tailnet.Client) error { _, err := c.MintKey(ctx, keyRequest); return err },
		"revoke": func(ctx context.Context, c *tailnet.Client) error { return c.RevokeKey(ctx, "kKeyCNTRL") },
		"look": func(ctx context.Context, c *tailnet.Client) error {
			_, err := c.DeviceTags(ctx, "nDeviceCNTRL")
			return err
		},
		"delete": func(ctx context.Context, c *tailnet.Client) error { return c.DeleteDevice(ctx, "nDeviceCNTRL") },
		"tags": func(ctx context.Context, c *tailnet.Client) error {
			return c.SetTags(ctx, "nDeviceCNTRL", []string{"tag:egress-a"})
		},
	}
	const html = "<!DOCTYPE html>\n<title>Gateway</title>"
	tests := []struct {
		name  string
		call  string
		fault hermetic.Fault
		want  tailnet.Reason // "": succeeds
		retry time.Duration
	}{
		{"credentials refused", "mint", hermetic.Fault{Path: tokenPath, Code: 401, Message: "API token invalid"}, tailnet.CredentialsRefused, 0},
		{"invalid_client as of RFC 6749", "mint", hermetic.Fault{Path: tokenPath, Code: 400, Body: `{"error": "invalid_client"}`}, tailnet.CredentialsRefused, 0},
		{"token refused", "delete", hermetic.Fault{Path: devicePath, Code: 401, Message: "API token invalid"}, tailnet.CredentialsRefused, 0},
		{"keys forbidden", "mint", hermetic.Fault{Path: keysPath, Code: 403, Message: "calling actor does not have enough permissions to perform this function"}, tailnet.PermissionDenied, 0},
		{"devices forbidden", "delete", hermetic.Fault{Path: devicePath, Code: 403, Message: "user does not have access to this operation"}, tailnet.PermissionDenied, 0},
		{"tags refused for a key", "mint", hermetic.Fault{Path: keysPath, Code: 400, Message: "requested tags [tag:egress-a] are invalid or not permitted"}, tailnet.TagNotOwned, 0},
		{"tags refused for a device", "tags", hermetic.Fault{Path: tagsPath, Code: 403, Message: "requested tags [tag:egress-a] are invalid or not permitted"}, tailnet.TagNotOwned, 0},
		{"another bad request", "mint", hermetic.Fault{Path: keysPath, Code: 400, Message: "expirySeconds must be between 0 and 7776000"}, tailnet.Rejected, 0},
		{"tailnet not found", "mint", hermetic.Fault{Path: keysPath, Code: 404, Message: "tailnet not found"}, tailnet.TailnetNotFound, 0},
		{"key not found", "revoke", hermetic.Fault{Path: keyPath, Code: 404, Message: "key not found"}, "", 0},
		{"device not found", "delete", hermetic.Fault{Path: devicePath, Code: 404, Message: "no manageable device matching ID found"}, "", 0},
		{"device to tag not found", "tags", hermetic.Fault{Path: tagsPath, Code: 404, Message: "no manageable device matching ID found"}, tailnet.NotFound, 0},
		{"device to look at not found", "look", hermetic.Fault{Path: devicePath, Code: 404, Message: "no manageable device matching ID found"}, tailnet.NotFound, 0},
		{"device to look at forbidden", "look", hermetic.Fault{Path: devicePath, Code: 403, Message: "user does not have access to this operation"}, tailnet.PermissionDenied, 0},
		{"another device", "look", hermetic.Fault{Path: devicePath, Code: 200, Body: `{"nodeId": "nOtherCNTRL", "tags": ["tag:egress-a"]}`}, tailnet.BadResponse, 0},
		{"nothing for a device", "look", hermetic.Fault{Path: devicePath, Code: 200, Body: "{}"}, tailnet.BadResponse, 0},
		{"404 of another server", "delete", hermetic.Fault{Path: devicePath, Code: 404, Body: html, ContentType: "text/html"}, tailnet.BadResponse, 0},
		{"404 of another server for the token", "delete", hermetic.Fault{Path: tokenPath, Code: 404, Body: html, ContentType: "text/html"}, tailnet.BadResponse, 0},
		{"too many requests", "mint", hermetic.Fault{Path: keysPath, Code: 429, RetryAfter: 90 * time.Second}, tailnet.RateLimited, 90 * time.Second},
		{"too many requests, for how long is not said", "mint", hermetic.Fault{Path: keysPath, Code: 429}, tailnet.RateLimited, 0},
		{"too many tokens", "mint", hermetic.Fault{Path: tokenPath, Code: 429, RetryAfter: time.Minute}, tailnet.RateLimited, time.Minute},
		{"internal error", "mint", hermetic.Fault{Path: keysPath, Code: 500}, tailnet.Unavailable, 0},
		{"internal error of the token endpoint", "mint", hermetic.Fault{Path: tokenPath, Code: 500}, tailnet.Unavailable, 0},
		{"page of a proxy", "revoke", hermetic.Fault{Path: keyPath, Code: 502, Body: html, ContentType: "text/html"}, tailnet.Unavailable, 0},
		{"maintenance", "tags", hermetic.Fault{Path: tagsPath, Code: 503, RetryAfter: 5 * time.Minute}, tailnet.Unavailable, 5 * time.Minute},
		{"login page of a proxy", "delete", hermetic.Fault{Path: devicePath, Code: 200, Body: html, ContentType: "text/html"}, tailnet.BadResponse, 0},
		{"garbage for a key", "mint", hermetic.Fault{Path: keysPath, Code: 200, Body: "\x00\x01"}, tailnet.BadResponse, 0},
		{"a key that is a number", "mint", hermetic.Fault{Path: keysPath, Code: 200, Body: `{"id": 1, "key": 2}`}, tailnet.BadResponse, 0},
		{"a key without a key", "mint", hermetic.Fault{Path: keysPath, Code: 200, Body: `{"id": "kKeyCNTRL"}`}, tailnet.BadResponse, 0},
		{"nothing for a key", "mint", hermetic.Fault{Path: keysPath, Code: 204}, tailnet.BadResponse, 0},
		{"garbage for a token", "mint", hermetic.Fault{Path: tokenPath, Code: 200, Body: "{"}, tailnet.BadResponse, 0},
		{"a token without a token", "mint", hermetic.Fault{Path: tokenPath, Code: 200, Body: "{}"}, tailnet.BadResponse, 0},
		{"cut off", "mint", hermetic.Fault{Path: keysPath, Code: 200, Body: `{"id": "kKeyCNTRL", "key"`, Cut: true}, tailnet.BadResponse, 0},
		{"token cut off", "delete", hermetic.Fault{Path: tokenPath, Code: 200, Body: `{"access`, Cut: true}, tailnet.BadResponse, 0},
		{"too long", "mint", hermetic.Fault{Path: keysPath, Code: 200, Body: strings.Repeat(" ", 2<<20)}, tailnet.BadResponse, 0},
		{"redirect", "mint", hermetic.Fault{Path: keysPath, Code: 308}, tailnet.BadResponse, 0},
		{"an answer with too much to say", "mint", hermetic.Fault{Path: keysPath, Code: 400, Message: "in\tmany\n\nlines\x1b[31m " + strings.Repeat("and words ", 50)}, tailnet.Rejected, 0},
		{"a status that there is not", "mint", hermetic.Fault{Path: keysPath, Code: 422, Body: "[]"}, tailnet.Rejected, 0},
		{"hanging", "mint", hermetic.Fault{Path: keysPath}, tailnet.TimedOut, 0},
		{"hanging token endpoint", "mint", hermetic.Fault{Path: tokenPath}, tailnet.TimedOut, 0},
	}
	var sentences strings.Builder
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, func(o *tailnet.Options) {
				if tt.want == tailnet.TimedOut {
					o.Timeout = 50 * time.Millisecond
				}
			})
			b.fail(tt.fault)
			err := calls[tt.call](t.Context(), b.client)
			if got := reason(t, err); got != tt.want {
				t.Fatalf("reason %q (%v), want %q", got, err, tt.want)
			}
			if err == nil {
				return
			}
			e, _ := errors.AsType[*tailnet.Error](err)
			if e.RetryAfter != tt.retry {
				t.Errorf("retry after %v, want %v", e.RetryAfter, tt.retry)
			}
			if tt.want == tailnet.TimedOut != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is of a deadline: %v", err, errors.Is(err, context.DeadlineExceeded))
			}
			fmt.Fprintf(&sentences, "%s (%s)\n\t%v\n", tt.name, e.Reason, e)
			b.tn.ClearFaults()
			if tt.want == tailnet.RateLimited && tt.retry > 0 {
				return // see TestRateLimited
			}
			if _, err := b.client.MintKey(t.Context(), keyRequest); err != nil && tt.want != tailnet.TimedOut {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
	if !t.Failed() {
		golden(t, "errors.txt", sentences.String())
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with go test -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it):\n%s", path, diff)
	}
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// TestRateLimited: no call reaches the API until the pause that it asked for is over.
func TestRateLimited(t *testing.T) {
	c := &clock{t: time.Now()}
	b := newBench(t, func(o *tailnet.Options) { o.Now = c.now })
	ctx := t.Context()
	if err := b.client.DeleteDevice(ctx, "nDeviceCNTRL"); err != nil {
		t.Fatal(err)
	}
	b.took()
	b.fail(hermetic.Fault{Code: 429, RetryAfter: 90 * time.Second, Times: 1})
	_, err := b.client.MintKey(ctx, keyRequest)
	if reason(t, err) != tailnet.RateLimited {
		t.Fatalf("the API asks for a pause: %v", err)
	}
	b.wantTook("mint_key RateLimited")
	c.step(30 * time.Second)
	for name, err := range map[string]error{
		"delete a device": b.client.DeleteDevice(ctx, "nDeviceCNTRL"), "revoke a key": b.client.RevokeKey(ctx, "kKeyCNTRL"),
	} {
		e, _ := errors.AsType[*tailnet.Error](err)
		if reason(t, err) != tailnet.RateLimited || e.RetryAfter != time.Minute || !strings.Contains(err.Error(), "asks to wait 1m0s") {
			t.Errorf("%s in the pause: %v", name, err)
		}
	}
	b.wantTook()
	c.step(time.Minute)
	if err := b.client.DeleteDevice(ctx, "nDeviceCNTRL"); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	b.wantTook("delete_device NotFound")
}

// TestOwnRate: requests beyond the first few wait for their turn.
func TestOwnRate(t *testing.T) {
	b := newBench(t)
	start := time.Now()
	var wg sync.WaitGroup
	for range 25 { // 26 requests, of which 6 are above the burst of 20, at 10 a second
		wg.Go(func() {
			if err := b.client.DeleteDevice(t.Context(), "nDeviceCNTRL"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("26 requests took %v", took)
	}
}

// TestHangingTokenEndpoint costs every call one timeout, however many there are.
func TestHangingTokenEndpoint(t *testing.T) {
	const timeout = 300 * time.Millisecond
	asked := make(chan struct{})
	var once sync.Once
	b := newBench(t, func(o *tailnet.Options) {
		o.Timeout = timeout
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			once.Do(func() { close(asked) })
			return http.DefaultTransport.RoundTrip(r)
		})
	})
	b.fail(hermetic.Fault{Path: tokenPath})
	ctx, cancel := context.WithCancel(t.Context())
	impatient := make(chan error, 1)
	start := time.Now()
	go func() { impatient <- b.client.DeleteDevice(ctx, "nDeviceCNTRL") }()
	<-asked
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := b.client.DeleteDevice(t.Context(), "nDeviceCNTRL"); reason(t, err) != tailnet.TimedOut {
				t.Errorf("hanging: %v", err)
			}
		})
	}
	// Who gives up does not take the others along, though it was the first to ask. By then they wait, too.
	time.AfterFunc(timeout/2, cancel)
	if err := <-impatient; reason(t, err) != tailnet.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	wg.Wait()
	if took := time.Since(start); took > 7*timeout {
		t.Errorf("8 calls took %v", took)
	}
}

func TestCanceled(t *testing.T) {
	b := newBench(t)
	b.fail(hermetic.Fault{Path: keysPath})
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	c := b.newClient(b.oauth, func(o *tailnet.Options) {
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != tokenPath {
				close(started)
			}
			return http.DefaultTransport.RoundTrip(r)
		})
	})
	go func() { <-started; cancel() }()
	if _, err := c.MintKey(ctx, keyRequest); reason(t, err) != tailnet.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestUnreachable(t *testing.T) {
	b := newBench(t)
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(foreign.Close)
	foreign.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	noSuchName := &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
	}}
	drops := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(drops.Close)
	for _, tt := range []struct {
		name, url string
		transport http.RoundTripper
		cause     func(error) bool
	}{
		{"refused", "http://" + closed.Addr().String(), nil, as[*net.OpError]},
		{"no such name", "", noSuchName, as[*net.DNSError]},
		{"unknown authority", foreign.URL, nil, as[x509.UnknownAuthorityError]},
		{"dropped", drops.URL, nil, func(err error) bool { return errors.Is(err, io.EOF) }},
	} {
		c := b.newClient(b.oauth, func(o *tailnet.Options) {
			o.BaseURL, o.Transport = tt.url, tt.transport
		})
		_, err := c.MintKey(t.Context(), keyRequest)
		if got := reason(t, err); got != tailnet.Unreachable || !strings.Contains(err.Error(), "cannot be reached (") {
			t.Errorf("%s: reason %q (%v)", tt.name, got, err)
		}
		if !tt.cause(err) {
			t.Errorf("%s: %v hides its cause", tt.name, err)
		}
	}
}

// as reports whether there is an E in the chain of err.
func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestRedirectIsNotFollowed: the secret and the token go to the API's own address only.
func TestRedirectIsNotFollowed(t *testing.T) {
	b := newBench(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent on", r.Method, r.URL)
	}))
	t.Cleanup(elsewhere.Close)
	for _, path := range []string{tokenPath, "/api/v2/device/nDeviceCNTRL"} {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "tskey-api-x", "token_type": "Bearer", "expires_in": 3600})
		}))
		c := b.newClient(b.oauth, func(o *tailnet.Options) { o.BaseURL = front.URL })
		if err := c.DeleteDevice(t.Context(), "nDeviceCNTRL"); reason(t, err) != tailnet.BadResponse {
			t.Errorf("redirect of %s: %v", path, err)
		}
		front.Close()
	}
}

// TestNoSecretShows makes the API, and a network error, say the secret, the token and a key, and looks everywhere.
func TestNoSecretShows(t *testing.T) {
	var log bytes.Buffer
	b := newBench(t)
	var token string
	c := b.newClient(b.oauth, func(o *tailnet.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			if r.Method == http.MethodDelete {
				return nil, fmt.Errorf("no route for %s and %s", b.oauth.Secret, token)
			}
			return http.DefaultTransport.RoundTrip(r)
		})
		slog.New(slog.NewTextHandler(&log, nil)).Info("options", "options", *o, "credentials", o.Credentials)
		fmt.Fprintf(&log, "%v %+v %#v %s %q\n", *o, *o, *o, *o, o.Credentials)
	})
	k, err := c.MintKey(t.Context(), keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	b.fail(hermetic.Fault{Code: 403, Message: "neither " + b.oauth.Secret + " nor " + token + " may make " + k.Key})
	_, refused := c.MintKey(t.Context(), keyRequest)
	unreachable := c.DeleteDevice(t.Context(), "nDeviceCNTRL")
	for _, err := range []error{refused, unreachable} {
		if err == nil || !strings.Contains(err.Error(), "[secret]") {
			t.Errorf("the fault does not show: %v", err)
		}
		slog.New(slog.NewTextHandler(&log, nil)).Info("error", "err", err)
		fmt.Fprintf(&log, "%v %s %q %#v %+v\n", err, err, err, k, k)
	}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("values", "client", c, "key", k, "in", []any{k, b.oauth.ID})
	fmt.Fprintf(&log, "%v %+v %#v %s %v\n", c, c, c, k, []tailnet.Key{k})
	if err := json.NewEncoder(&log).Encode([]any{k, tailnet.Credentials{ClientID: b.oauth.ID, ClientSecret: b.oauth.Secret}}); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"client secret": b.oauth.Secret, "access token": token, "auth key": k.Key} {
		if secret == "" || strings.Contains(log.String(), secret) {
			t.Errorf("the %s shows, or there is none:\n%s", name, &log)
		}
	}
	if m := regexp.MustCompile(`tskey-\w+-\w+`).FindString(log.String()); m != "" {
		t.Errorf("%q shows", m)
	}
	if !strings.Contains(log.String(), "op=mint_key status=200") {
		t.Errorf("the log lacks the requests:\n%s", &log)
	}
}
