package tailnet

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// defaultTokenLife is that of Tailscale's access tokens.
const defaultTokenLife = time.Hour

// OAuthOptions say what an OAuth client may do.
type OAuthOptions struct {
	// Scopes as in "auth_keys", "devices:core", "devices:routes", each including its
	// ":read", or "all"; none: "all".
	Scopes []string
	// Tags are the client's own. Its auth keys must have all of them, or else only
	// tags in Owns: https://tailscale.com/kb/1215/oauth-clients#scopes.
	Tags []string
	// Owns are the tags that the policy file's tagOwners give to the client's tags.
	Owns []string
	// TokenLife is how long an access token lasts; 0: an hour.
	TokenLife time.Duration
	// Client is the credential, when callers have it from before; see [NewOAuthClient]. Zero: a new one.
	Client OAuthClient
}

// OAuthClient is the credential of an API client.
type OAuthClient struct {
	ID, Secret string
}

// NewOAuthClient makes up a credential, for a tailnet that is yet to start.
func NewOAuthClient() OAuthClient {
	id := newID("k")
	return OAuthClient{ID: id, Secret: "tskey-client-" + id + "-" + rand.Text()}
}

type oauthClient struct {
	OAuthClient
	OAuthOptions
}

type token struct {
	client  *oauthClient
	scopes  []string
	expires time.Time
}

// allows reports whether the token has the scope, or the one of which it is the read part.
func (k *token) allows(scope string) bool {
	write := strings.TrimSuffix(scope, ":read")
	return slices.ContainsFunc(k.scopes, func(s string) bool {
		return s == scope || s == write || s == "all" || s == "all:read" && write != scope
	})
}

// CreateOAuthClient makes a credential for the API.
func (t *Tailnet) CreateOAuthClient(o OAuthOptions) OAuthClient {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(o.Scopes) == 0 {
		o.Scopes = []string{"all"}
	}
	if o.TokenLife == 0 {
		o.TokenLife = defaultTokenLife
	}
	o.Tags = slices.Sorted(slices.Values(o.Tags))
	if o.Client == (OAuthClient{}) {
		o.Client = NewOAuthClient()
	}
	c := &oauthClient{OAuthClient: o.Client, OAuthOptions: o}
	t.clients = append(t.clients, c)
	return c.OAuthClient
}

// DeleteOAuthClient ends a credential, and with it the access tokens that it got, and reports whether
// there was one. Auth keys that it made stay.
func (t *Tailnet) DeleteOAuthClient(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.clients, func(c *oauthClient) bool { return c.ID == id })
	if i < 0 {
		return false
	}
	maps.DeleteFunc(t.tokens, func(_ string, k *token) bool { return k.client == t.clients[i] })
	t.clients = slices.Delete(slices.Clone(t.clients), i, i+1)
	return true
}

// ExpireTokens ends all access tokens given out so far; clients may ask for new ones.
func (t *Tailnet) ExpireTokens() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
}

// serveToken is the token endpoint for client credentials (RFC 6749, section 4.4).
func (t *Tailnet) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	if g := r.FormValue("grant_type"); g != "" && g != "client_credentials" {
		reply(w, nil, &apiError{http.StatusBadRequest, "unsupported grant_type"})
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// As with the real one, the secret alone is enough.
	i := slices.IndexFunc(t.clients, func(c *oauthClient) bool {
		return c.Secret == secret && (c.ID == id || id == "") && secretID(secret) == c.ID
	})
	if i < 0 {
		reply(w, nil, &apiError{http.StatusUnauthorized, "API token invalid"})
		return
	}
	c := t.clients[i]
	tok := &token{client: c, scopes: c.Scopes, expires: time.Now().Add(c.TokenLife)}
	if want := strings.Fields(r.FormValue("scope")); len(want) > 0 {
		for _, s := range want {
			if !tok.allows(s) {
				reply(w, nil, &apiError{http.StatusForbidden, "requested scope " + s + " is not permitted"})
				return
			}
		}
		tok.scopes = want
	}
	reply(w, t.grantLocked(tok), nil)
}

// grantLocked makes a token good, and returns what is told of it.
func (t *Tailnet) grantLocked(tok *token) map[string]any {
	access := "tskey-api-" + newID("k") + "-" + rand.Text()
	t.tokens[access] = tok
	return map[string]any{
		"access_token": access, "token_type": "Bearer",
		"expires_in": int(time.Until(tok.expires).Round(time.Second) / time.Second), "scope": strings.Join(tok.scopes, " "),
	}
}

// bearer returns the request's token if it is good.
func (t *Tailnet) bearer(r *http.Request) *token {
	access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		// API tokens may also come as the user of basic authentication.
		access, _, _ = r.BasicAuth()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tok := t.tokens[access]
	if tok == nil || !time.Now().Before(tok.expires) {
		return nil
	}
	return tok
}

// mayTag reports whether the client may give these tags to keys and devices.
func (t *Tailnet) mayTag(c *oauthClient, tags []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(tags) == 0 {
		return false // what a client makes belongs to nobody else
	}
	if slices.Equal(slices.Sorted(slices.Values(tags)), c.Tags) {
		return true
	}
	owned := t.ownedLocked(c)
	return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(owned, tag) })
}

// tagsRefused is the answer to tags that a client may not give, in the real one's words
// (tailscale/tailscale#15456).
func tagsRefused(tags []string) *apiError {
	return &apiError{http.StatusBadRequest, fmt.Sprintf("requested tags %v are invalid or not permitted", tags)}
}
