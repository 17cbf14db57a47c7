package tailnet

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// keyCapabilities is the API's shape of what a key allows.
type keyCapabilities struct {
	Devices struct {
		Create struct {
			Reusable      bool     `json:"reusable"`
			Ephemeral     bool     `json:"ephemeral"`
			Preauthorized bool     `json:"preauthorized"`
			Tags          []string `json:"tags,omitempty"`
		} `json:"create"`
	} `json:"devices"`
}

// keyJSON is a key as the API shows it; Key is there at its creation only.
type keyJSON struct {
	ID            string          `json:"id"`
	KeyType       string          `json:"keyType"`
	Key           string          `json:"key,omitempty"`
	ExpirySeconds int64           `json:"expirySeconds"`
	Created       time.Time       `json:"created"`
	Expires       time.Time       `json:"expires"`
	Revoked       time.Time       `json:"revoked,omitzero"`
	Invalid       bool            `json:"invalid,omitempty"`
	Capabilities  keyCapabilities `json:"capabilities"`
	Description   string          `json:"description,omitempty"`
	UserID        string          `json:"userId,omitempty"`
}

func (k Key) wire() keyJSON {
	w := keyJSON{
		ID: k.ID, KeyType: "auth", ExpirySeconds: int64(k.Expires.Sub(k.Created) / time.Second),
		Created: wireTime(k.Created), Expires: wireTime(k.Expires), Revoked: wireTime(k.Revoked),
		Invalid: !k.Valid(), Description: k.Description,
	}
	create := &w.Capabilities.Devices.Create
	create.Reusable, create.Ephemeral, create.Preauthorized, create.Tags = k.Reusable, k.Ephemeral, k.Preauthorized, k.Tags
	return w
}

// wireTime is t as the API tells it: UTC, whole seconds.
func wireTime(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func (t *Tailnet) keyByID(id string) (Key, *apiError) {
	keys := t.Keys()
	if i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == id }); i >= 0 {
		return keys[i], nil
	}
	return Key{}, notFound("key not found")
}

// listKeys tells the identifiers of valid keys only, as the real API does.
func (t *Tailnet) listKeys(*token, *http.Request) (any, *apiError) {
	type entry struct {
		ID string `json:"id"`
	}
	out := []entry{}
	for _, k := range t.Keys() {
		if k.Valid() {
			out = append(out, entry{k.ID})
		}
	}
	return map[string]any{"keys": out}, nil
}

func (t *Tailnet) getKey(_ *token, r *http.Request) (any, *apiError) {
	k, err := t.keyByID(r.PathValue("key"))
	if err != nil {
		return nil, err
	}
	return k.wire(), nil
}

func (t *Tailnet) deleteKey(_ *token, r *http.Request) (any, *apiError) {
	if !t.RevokeKey(r.PathValue("key")) {
		return nil, notFound("key not found")
	}
	return nil, nil
}

func (t *Tailnet) postKey(tok *token, r *http.Request) (any, *apiError) {
	var req struct {
		KeyType       string          `json:"keyType"`
		Capabilities  keyCapabilities `json:"capabilities"`
		ExpirySeconds int64           `json:"expirySeconds"`
		Description   string          `json:"description"`
		Scopes        []string        `json:"scopes"`
		Tags          []string        `json:"tags"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	create := req.Capabilities.Devices.Create
	if req.KeyType == "client" {
		return t.postClient(tok, OAuthOptions{Scopes: req.Scopes, Tags: req.Tags}, req.Description)
	}
	switch {
	case req.KeyType != "" && req.KeyType != "auth":
		return nil, &apiError{http.StatusBadRequest, fmt.Sprintf("keyType %q is not served by this test tailnet", req.KeyType)}
	case req.ExpirySeconds < 0 || req.ExpirySeconds > int64(defaultKeyExpiry/time.Second):
		return nil, &apiError{http.StatusBadRequest, "expirySeconds must be between 0 and 7776000"}
	case !t.mayTag(tok.client, create.Tags):
		return nil, tagsRefused(create.Tags)
	}
	k := t.CreateKey(KeyOptions{
		Tags: create.Tags, Reusable: create.Reusable, Preauthorized: create.Preauthorized, Ephemeral: create.Ephemeral,
		Expiry: time.Duration(req.ExpirySeconds) * time.Second, Description: req.Description,
	})
	w := k.wire()
	w.Key = k.Secret
	return w, nil
}

// postClient makes an OAuth client, which is a key of that kind in the API, with at most what the caller has.
func (t *Tailnet) postClient(tok *token, o OAuthOptions, description string) (any, *apiError) {
	for _, scope := range append([]string{"oauth_keys"}, o.Scopes...) {
		if !tok.allows(scope) {
			return nil, &apiError{http.StatusForbidden, "calling actor does not have enough permissions to perform this function"}
		}
	}
	if len(o.Scopes) == 0 || !t.mayTag(tok.client, o.Tags) {
		return nil, tagsRefused(o.Tags)
	}
	c := t.CreateOAuthClient(o)
	return struct {
		keyJSON
		Scopes []string `json:"scopes"`
		Tags   []string `json:"tags"`
	}{keyJSON{ID: c.ID, KeyType: "client", Key: c.Secret, Created: wireTime(time.Now()), Description: description}, o.Scopes, o.Tags}, nil
}
