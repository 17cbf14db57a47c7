package tailnet

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"
)

// Organization is the part of Tailscale that makes tailnets (https://tailscale.com/docs/features/tailnets-api): the API of
// an organization in front of the APIs of its tailnets, all behind one address. As they have one address for their nodes, too,
// it has room for one at a time.
type Organization struct {
	o      Options
	id     string
	client OAuthClient
	front  *Tailnet // that lends its listener; it has no nodes

	mu     sync.Mutex
	tokens map[string]bool
	made   *madeTailnet
}

type madeTailnet struct {
	*Tailnet
	name    string
	created time.Time
	end     context.CancelFunc
}

// StartOrganization starts an organization with an OAuth client of scope "all", which lives until ctx ends or
// [Organization.Close]. Options are those of the tailnets that it makes, but for Domain, which it makes up, and APIPort, which is
// the organization's own.
func StartOrganization(ctx context.Context, o Options, client OAuthClient) (*Organization, error) {
	o.fill()
	g := &Organization{o: o, id: newID("o"), client: client, tokens: map[string]bool{}}
	g.front = &Tailnet{opts: o}
	ctx, g.front.stop = context.WithCancel(ctx)
	g.front.ctx = ctx
	ln, err := g.front.tcp(o.APIPort)
	if err != nil {
		return nil, fmt.Errorf("start API of the organization: %w", err)
	}
	g.front.apiURL = g.front.url(ln)
	g.front.serve(ln, g.handler())
	context.AfterFunc(ctx, g.front.release)
	return g, nil
}

// APIURL is the base URL of the HTTP API v2, without "/api/v2".
func (g *Organization) APIURL() string { return g.front.apiURL }

// Tailnet returns the tailnet that there is, or nil.
func (g *Organization) Tailnet() *Tailnet {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made == nil {
		return nil
	}
	return g.made.Tailnet
}

// Close ends the organization and its tailnet.
func (g *Organization) Close() {
	g.front.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endLocked()
}

func (g *Organization) endLocked() {
	if g.made != nil {
		g.made.Close()
		g.made.end()
		g.made = nil
	}
}

func (g *Organization) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, *apiError)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			reply(w, v, err)
		})
	}
	mux.HandleFunc("POST /api/v2/oauth/token", g.serveToken)
	handle("GET /api/v2/organizations/-/tailnets", g.list)
	handle("POST /api/v2/organizations/-/tailnets", g.create)
	handle("DELETE /api/v2/tailnet/{tailnet}", g.delete)
	mux.HandleFunc("/", g.pass)
	return mux
}

// pass lets the tailnet answer.
func (g *Organization) pass(w http.ResponseWriter, r *http.Request) {
	t := g.Tailnet()
	if t == nil {
		reply(w, nil, &apiError{http.StatusUnauthorized, "API token invalid"})
		return
	}
	t.apiHandler().ServeHTTP(w, r)
}

// serveToken is the token endpoint of all. The organization's client may ask for a token of a tailnet that it made, by its ID.
func (g *Organization) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	if (OAuthClient{id, secret}) != g.client {
		g.pass(w, r)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if want := r.FormValue("tailnet"); want != "" {
		if g.made == nil || g.made.id != want {
			reply(w, nil, notFound("tailnet not found"))
			return
		}
		t := g.made.Tailnet
		t.mu.Lock()
		defer t.mu.Unlock()
		c := &oauthClient{g.client, OAuthOptions{Scopes: []string{"all"}}}
		reply(w, t.grantLocked(&token{client: c, scopes: c.Scopes, expires: time.Now().Add(defaultTokenLife)}), nil)
		return
	}
	access := "tskey-api-" + newID("k") + "-" + rand.Text()
	g.tokens[access] = true
	reply(w, map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": int(defaultTokenLife / time.Second), "scope": "all",
	}, nil)
}

// authorizedLocked refuses a request without a token of the organization's.
func (g *Organization) authorizedLocked(r *http.Request) *apiError {
	if access := r.Header.Get("Authorization"); len(access) > len("Bearer ") && g.tokens[access[len("Bearer "):]] {
		return nil
	}
	return &apiError{http.StatusUnauthorized, "API token invalid"}
}

// tailnetJSON is a tailnet as the API shows it; DNSName and OAuthClient are there at its creation only.
type tailnetJSON struct {
	ID          string           `json:"id"`
	DisplayName string           `json:"displayName"`
	OrgID       string           `json:"orgId"`
	DNSName     string           `json:"dnsName,omitempty"`
	CreatedAt   time.Time        `json:"createdAt"`
	OAuthClient *oauthClientJSON `json:"oauthClient,omitempty"`
}

type oauthClientJSON struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

func (g *Organization) wire(t *madeTailnet) tailnetJSON {
	return tailnetJSON{ID: t.id, DisplayName: t.name, OrgID: g.id, CreatedAt: wireTime(t.created)}
}

func (g *Organization) list(r *http.Request) (any, *apiError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.authorizedLocked(r); err != nil {
		return nil, err
	}
	all := []tailnetJSON{}
	if g.made != nil {
		all = append(all, g.wire(g.made))
	}
	return map[string]any{"tailnets": all}, nil
}

// displayName is what a tailnet may be called.
var displayName = regexp.MustCompile(`^[a-zA-Z0-9' -]+$`)

func (g *Organization) create(r *http.Request) (any, *apiError) {
	var req struct {
		DisplayName string `json:"displayName"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.authorizedLocked(r); err != nil {
		return nil, err
	}
	switch {
	case !displayName.MatchString(req.DisplayName):
		return nil, &apiError{http.StatusBadRequest, "invalid displayName: use letters, numbers, spaces, apostrophes and hyphens"}
	case g.made != nil && g.made.name == req.DisplayName:
		return nil, &apiError{http.StatusConflict, "a tailnet of this display name exists"}
	case g.made != nil:
		return nil, &apiError{http.StatusForbidden, "the organization has as many tailnets as it may"}
	}
	o := g.o
	id := newID("T")
	o.APIPort, o.Domain = 0, "tail"+id[1:7]+".ts.net"
	ctx, end := context.WithCancel(g.front.ctx)
	t, err := Start(ctx, o)
	if err != nil {
		end()
		return nil, &apiError{http.StatusInternalServerError, err.Error()}
	}
	t.id = id
	g.made = &madeTailnet{Tailnet: t, name: req.DisplayName, created: time.Now(), end: end}
	c := t.CreateOAuthClient(OAuthOptions{})
	w := g.wire(g.made)
	w.DNSName, w.OAuthClient = o.Domain, &oauthClientJSON{c.ID, c.Secret}
	return w, nil
}

// delete ends a tailnet, for a token of its own: those of the organization are not its members'.
func (g *Organization) delete(r *http.Request) (any, *apiError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made == nil {
		return nil, notFound("tailnet not found")
	}
	if _, err := g.made.authorized(r, "all", func(*token, *http.Request) (any, *apiError) { return nil, nil }); err != nil {
		return nil, err
	}
	g.endLocked()
	return nil, nil
}
