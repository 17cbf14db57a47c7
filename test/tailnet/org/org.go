package org

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2/clientcredentials"
	tsapi "tailscale.com/client/tailscale/v2"
)

// The environment's variables.
const (
	idVar     = "TS_ORG_OAUTH_CLIENT_ID"
	secretVar = "TS_ORG_OAUTH_CLIENT_SECRET"
	apiVar    = "TS_API_URL"
	loginVar  = "TS_LOGIN_SERVER"
)

// DefaultAPI is Tailscale's own.
const DefaultAPI = "https://api.tailscale.com"

// Options lead to an organization.
type Options struct {
	// ID and Secret are those of an OAuth client with the scope "all": it makes tailnets, and deletes those that were left.
	ID, Secret string
	// APIURL is the base URL of the API, without "/api/v2". "": Tailscale's.
	APIURL string
	// LoginServer is the control plane of the tailnets. "": Tailscale's.
	LoginServer string
}

// FromEnv returns the organization of $TS_ORG_OAUTH_CLIENT_ID and $TS_ORG_OAUTH_CLIENT_SECRET, with $TS_API_URL and
// $TS_LOGIN_SERVER, or nil when there is none.
func FromEnv() (*Options, error) {
	o := Options{ID: os.Getenv(idVar), Secret: os.Getenv(secretVar), APIURL: os.Getenv(apiVar), LoginServer: os.Getenv(loginVar)}
	switch {
	case o.ID == "" && o.Secret == "":
		return nil, nil
	case o.ID == "" || o.Secret == "":
		return nil, fmt.Errorf("one of $%s and $%s is set without the other; set both for a tailnet of that organization, neither for a hermetic one", idVar, secretVar)
	}
	return &o, nil
}

// Tailnet is a tailnet that was made.
type Tailnet struct {
	// ID and Name tell it from the organization's others, Domain is its MagicDNS domain.
	ID, Name, Domain string

	o   Options
	api *tsapi.Client
}

// timeout bounds each request.
const timeout = time.Minute

func (o Options) base() string {
	if o.APIURL == "" {
		return DefaultAPI
	}
	return strings.TrimSuffix(o.APIURL, "/")
}

// client returns one that gets its tokens from the token endpoint, with a query for the token of one tailnet.
func (o Options) client(ctx context.Context, query string) *http.Client {
	c := clientcredentials.Config{ClientID: o.ID, ClientSecret: o.Secret, TokenURL: o.base() + "/api/v2/oauth/token" + query}
	h := c.Client(ctx)
	h.Timeout = timeout
	return h
}

// listed is a tailnet as the API shows it.
type listed struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	DNSName     string `json:"dnsName"`
	OAuthClient struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	} `json:"oauthClient"`
}

// Create makes a tailnet of that name, of letters, digits, spaces and hyphens. One that has it already was left by a run that
// was killed, and is deleted first.
func Create(ctx context.Context, o Options, name string) (*Tailnet, error) {
	h := o.client(ctx, "")
	if err := sweep(ctx, o, h, name); err != nil {
		return nil, err
	}
	var made listed
	err := call(ctx, h, http.MethodPost, o.base()+"/api/v2/organizations/-/tailnets", map[string]string{"displayName": name}, &made)
	if err != nil {
		return nil, fmt.Errorf("make tailnet %q: %w", name, err)
	}
	t := &Tailnet{ID: made.ID, Name: name, Domain: made.DNSName, o: o}
	base, err := url.Parse(o.base())
	if err != nil {
		return t, fmt.Errorf("URL of the API: %w", err)
	}
	if made.ID == "" || made.DNSName == "" || made.OAuthClient.Secret == "" {
		return t, fmt.Errorf("make tailnet %q: the API told no ID, DNS name or OAuth client of it", name)
	}
	t.api = &tsapi.Client{
		BaseURL: base, Tailnet: made.ID, HTTP: &http.Client{Timeout: timeout},
		Auth: &tsapi.OAuth{ClientID: made.OAuthClient.ID, ClientSecret: made.OAuthClient.Secret},
	}
	return t, nil
}

// sweep deletes tailnets of that name.
func sweep(ctx context.Context, o Options, h *http.Client, name string) error {
	for cursor, first := "", true; first || cursor != ""; first = false {
		var page struct {
			Tailnets []listed `json:"tailnets"`
			Cursor   string   `json:"cursor"`
		}
		query := ""
		if cursor != "" {
			query = "?cursor=" + url.QueryEscape(cursor)
		}
		if err := call(ctx, h, http.MethodGet, o.base()+"/api/v2/organizations/-/tailnets"+query, nil, &page); err != nil {
			return fmt.Errorf("look for a tailnet %q that was left: %w", name, err)
		}
		for _, t := range page.Tailnets {
			if t.DisplayName != name {
				continue
			}
			if err := o.delete(ctx, t.ID); err != nil {
				return fmt.Errorf("tailnet %q was left by a run that was killed, and could not be deleted: %w; give the OAuth client the scope \"all\", or delete it otherwise", name, err)
			}
		}
		cursor = page.Cursor
	}
	return nil
}

// delete deletes a tailnet by its ID, with a token for it. That there is none is no error.
func (o Options) delete(ctx context.Context, id string) error {
	err := call(ctx, o.client(ctx, "?tailnet="+url.QueryEscape(id)), http.MethodDelete, o.base()+"/api/v2/tailnet/"+url.PathEscape(id), nil, nil)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return nil
	}
	return err
}

// Delete deletes the tailnet, with all that is in it. That it is gone already is no error.
func (t *Tailnet) Delete(ctx context.Context) error {
	var err error
	if t.api == nil {
		err = t.o.delete(ctx, t.ID)
	} else {
		own := t.api.Auth.HTTPClient(&http.Client{Timeout: timeout}, t.o.base())
		err = call(ctx, own, http.MethodDelete, t.o.base()+"/api/v2/tailnet/"+url.PathEscape(t.ID), nil, nil)
		var status *statusError
		if errors.As(err, &status) && status.code == http.StatusNotFound {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete tailnet %q: %w; the next run deletes it", t.Name, err)
	}
	return nil
}

// API is Tailscale's own client for what is in the tailnet. It may do all there.
func (t *Tailnet) API() *tsapi.Client { return t.api }

// SetPolicy sets the policy file, in HuJSON.
func (t *Tailnet) SetPolicy(ctx context.Context, text string) error {
	if err := t.api.PolicyFile().Set(ctx, text, ""); err != nil {
		return fmt.Errorf("set policy of tailnet %q: %w", t.Name, explained(err))
	}
	return nil
}

// explained adds to the API's errors what they say in detail.
func explained(err error) error {
	var e tsapi.APIError
	if errors.As(err, &e) && len(e.Data) > 0 {
		return fmt.Errorf("%w: %+v", err, e.Data)
	}
	return err
}

// Key makes an auth key that logs nodes with these tags in, for an hour, as ephemeral ones.
func (t *Tailnet) Key(ctx context.Context, tags ...string) (string, error) {
	req := tsapi.CreateKeyRequest{ExpirySeconds: 3600, Description: "nodes of a test"}
	create := &req.Capabilities.Devices.Create
	create.Reusable, create.Ephemeral, create.Preauthorized, create.Tags = true, true, true, tags
	k, err := t.api.Keys().CreateAuthKey(ctx, req)
	if err != nil {
		return "", fmt.Errorf("make auth key in tailnet %q: %w", t.Name, explained(err))
	}
	return k.Key, nil
}

// OAuthClient makes a credential for the API with these scopes and tags, and no more.
func (t *Tailnet) OAuthClient(ctx context.Context, scopes, tags []string) (id, secret string, err error) {
	k, err := t.api.Keys().CreateOAuthClient(ctx, tsapi.CreateOAuthClientRequest{Scopes: scopes, Tags: tags, Description: "operator of a test"})
	if err != nil {
		return "", "", fmt.Errorf("make OAuth client in tailnet %q: %w", t.Name, explained(err))
	}
	return k.ID, k.Key, nil
}

// statusError is an answer that is none.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.message, e.code) }

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 1 << 20

// call sends a request, and reads the answer into out.
func call(ctx context.Context, h *http.Client, method, to string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := h.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		var e struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(b, &e) != nil || e.Message == "" {
			e.Message = http.StatusText(res.StatusCode)
		}
		return &statusError{res.StatusCode, e.Message}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
