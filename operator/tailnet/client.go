package tailnet

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	tsapi "tailscale.com/client/tailscale/v2"
)

// DefaultBaseURL is that of Tailscale's own API.
const DefaultBaseURL = "https://api.tailscale.com"

// defaultTimeout bounds one HTTP request. Tailscale's own client waits a minute; an operator has other
// things to do, and comes back.
const defaultTimeout = 20 * time.Second

// Requests leave at this rate, in requests a second, after the first few. It is ours: Tailscale
// tells no limit, and a cluster with a thousand groups must not find it out.
const (
	requestRate  = 10
	requestBurst = 20
)

// Options say how the API is reached.
type Options struct {
	// Credentials are the OAuth client's; see [ParseSecret].
	Credentials
	// BaseURL is the API's, without /api/v2; "": [DefaultBaseURL].
	BaseURL string
	// Timeout bounds each HTTP request, its answer included; 0: 20 s. A call makes three at most: a token, the
	// request, and when the token had ended both again.
	Timeout time.Duration
	// Transport makes the connections; nil: one of its own as [http.DefaultTransport].
	Transport http.RoundTripper
	// UserAgent is told to the API; "": tailgate-operator.
	UserAgent string
	// Observe is called after each HTTP request, perhaps by several goroutines at once; nil: nobody is.
	Observe func(Request)
	// Logger gets a line for each HTTP request at debug level; nil: [slog.Default].
	Logger *slog.Logger
	// Now tells the time by which Retry-After is kept; nil: [time.Now].
	Now func() time.Time
}

// Request is an HTTP request that was made, for metrics.
type Request struct {
	// Op is token, mint_key, revoke_key, list_keys, get_device, delete_device or set_tags.
	Op string
	// Reason is "" when it succeeded.
	Reason Reason
	// Duration is from sending it to the end of its answer.
	Duration time.Duration
}

// Client is the API of one tailnet, for one OAuth client. Its methods may be called at the same time.
type Client struct {
	api       *tsapi.Client
	cred      Credentials
	tokenURL  string
	transport http.RoundTripper
	timeout   time.Duration
	userAgent string
	limiter   *rate.Limiter
	observe   func(Request)
	log       *slog.Logger
	now       func() time.Time

	fetching singleflight.Group // of access tokens

	mu    sync.Mutex
	token *oauth2.Token // nil: there is none
	until time.Time     // no request before it: the API said so
}

// New returns a client. It makes no request. The error is a sentence.
func New(o Options) (*Client, error) {
	base, err := parseBaseURL(o.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cred: o.Credentials, tokenURL: base.JoinPath("api", "v2", "oauth", "token").String(),
		transport: o.Transport, timeout: o.Timeout, userAgent: o.UserAgent,
		limiter: rate.NewLimiter(requestRate, requestBurst), observe: o.Observe, log: o.Logger, now: o.Now,
	}
	if c.transport == nil {
		c.transport = http.DefaultTransport.(*http.Transport).Clone() // as net/http documents it
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = "tailgate-operator"
	}
	if c.observe == nil {
		c.observe = func(Request) {}
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if c.now == nil {
		c.now = time.Now
	}
	// Not the API client's own OAuth: it fetches tokens without a time limit, by another HTTP client.
	c.api = &tsapi.Client{BaseURL: base, Tailnet: o.Tailnet, UserAgent: c.userAgent, HTTP: httpClient(authorized{c})}
	return c, nil
}

// httpClient follows no redirect: it would take the secret along.
func httpClient(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// parseBaseURL quotes nothing: a URL may hold a password.
func parseBaseURL(s string) (*url.URL, error) {
	if s == "" {
		s = DefaultBaseURL
	}
	u, err := url.Parse(strings.TrimRight(strings.TrimSpace(s), "/"))
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the tailnet API's URL is no http or https URL with a host; write one such as %s", DefaultBaseURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf(`the tailnet API's URL takes scheme, host and path only; leave out user, password, "?" and "#"`)
	case strings.HasSuffix(u.Path, "/api/v2"):
		return nil, fmt.Errorf("the tailnet API's URL is written without /api/v2; write one such as %s", DefaultBaseURL)
	}
	return u, nil
}

// String returns which OAuth client and tailnet it is for.
func (c *Client) String() string { return c.cred.String() }

// GoString is [Client.String], so that %#v shows no secret either.
func (c *Client) GoString() string { return c.String() }

// LogValue is what slog prints.
func (c *Client) LogValue() slog.Value { return c.cred.LogValue() }

// Close gives up the connections that are not in use. Calls that are under way go on.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// operation is what a call is for.
type operation struct {
	name      string   // in metrics
	verb      string   // in errors
	scope     string   // that the OAuth client needs
	tags      []string // that it asks for
	token     bool     // it fetches an access token
	inTailnet bool     // what it asks for is in the tailnet if there is such a tailnet
}

// call makes one call of the API client and says what came of it.
func (c *Client) call(ctx context.Context, op operation, f func(context.Context) error) error {
	x := &exchange{op: op}
	err := f(context.WithValue(ctx, exchangeKey{}, x))
	switch {
	case x.err != nil:
		return x.err
	case err != nil: // an answer that does not decode
		return badResponse(op, x.status, "it is not what the API documents")
	}
	return nil
}
