package tailnet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apiError is what the API answers instead of a result; the wording follows the real one.
type apiError struct {
	code    int
	message string
}

func notFound(message string) *apiError { return &apiError{http.StatusNotFound, message} }

// apiHandler serves the part of the HTTP API v2 (https://tailscale.com/api) that
// tailscale.com/client/tailscale/v2 uses for keys, devices and the policy file.
func (t *Tailnet) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/oauth/token", t.serveToken)
	handle := func(pattern, scope string, f func(*token, *http.Request) (any, *apiError)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := t.authorized(r, scope, f)
			reply(w, v, err)
		})
	}
	const tailnet = "/api/v2/tailnet/{tailnet}"
	handle("GET "+tailnet+"/keys", "auth_keys:read", t.listKeys)
	handle("POST "+tailnet+"/keys", "auth_keys", t.postKey)
	handle("GET "+tailnet+"/keys/{key}", "auth_keys:read", t.getKey)
	handle("DELETE "+tailnet+"/keys/{key}", "auth_keys", t.deleteKey)
	handle("GET "+tailnet+"/devices", "devices:core:read", t.listDevices)
	handle("GET /api/v2/device/{device}", "devices:core:read", t.getDevice)
	handle("DELETE /api/v2/device/{device}", "devices:core", t.deleteDevice)
	handle("POST /api/v2/device/{device}/tags", "devices:core", t.postTags)
	handle("GET /api/v2/device/{device}/routes", "devices:routes:read", t.getRoutes)
	handle("POST /api/v2/device/{device}/routes", "devices:routes", t.postRoutes)
	handle("GET "+tailnet+"/acl", "policy_file:read", t.getPolicy)
	handle("POST "+tailnet+"/acl", "policy_file", t.postPolicy)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { reply(w, nil, notFound("not found")) })
	return t.withFaults(mux)
}

// authorized runs f for a request that carries a token with the scope.
func (t *Tailnet) authorized(r *http.Request, scope string, f func(*token, *http.Request) (any, *apiError)) (any, *apiError) {
	tok := t.bearer(r)
	switch tn := r.PathValue("tailnet"); {
	case tok == nil:
		return nil, &apiError{http.StatusUnauthorized, "API token invalid"}
	case !tok.allows(scope):
		return nil, &apiError{http.StatusForbidden, "calling actor does not have enough permissions to perform this function"}
	case tn != "" && tn != "-" && tn != t.opts.Domain && (t.id == "" || tn != t.id):
		return nil, notFound("tailnet not found")
	}
	return f(tok, r)
}

func reply(w http.ResponseWriter, v any, err *apiError) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(err.code)
		v = map[string]string{"message": err.message}
	}
	if v != nil {
		_ = json.NewEncoder(w).Encode(v) // the client went away
	}
}

func readJSON(r *http.Request, v any) *apiError {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest)).Decode(v); err != nil {
		return &apiError{http.StatusBadRequest, "invalid request body: " + err.Error()}
	}
	return nil
}

// Fault is a failure of the API on demand.
type Fault struct {
	// Method is GET, POST, DELETE; "": any.
	Method string
	// Path is a pattern as of [path.Match], as in "/api/v2/tailnet/*/keys"; "": any. OAuth
	// tokens are at "/api/v2/oauth/token".
	Path string
	// Code is the HTTP status to answer with; 0: accept the request and hang.
	Code int
	// Times is how many requests fail; 0: all until [Tailnet.ClearFaults].
	Times int
	// RetryAfter is told in a header, in whole seconds; 0: none.
	RetryAfter time.Duration
	// Message is the error's text; "": the status's own.
	Message string
	// Body is sent as it is, instead of a message in JSON, as by something that is not the API; Code may
	// be 200 then.
	Body string
	// ContentType is the body's; "": application/json.
	ContentType string
	// Cut breaks the connection off before the answer's end.
	Cut bool
}

// Fail makes matching API requests fail. The first fault that matches counts.
func (t *Tailnet) Fail(f Fault) error {
	if _, err := path.Match(f.Path, ""); err != nil {
		return fmt.Errorf("fault path %q: %w; use * for any part between slashes, as in /api/v2/tailnet/*/keys", f.Path, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, &f)
	return nil
}

// ClearFaults makes the API work again.
func (t *Tailnet) ClearFaults() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = nil
}

// Hanging is how many requests hang now because of a [Fault].
func (t *Tailnet) Hanging() int { return int(t.hanging.Load()) }

// fault takes the fault that r meets, or nil.
func (t *Tailnet) fault(r *http.Request) *Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.faults {
		match, _ := path.Match(f.Path, r.URL.Path)
		if f.Method != "" && f.Method != r.Method || f.Path != "" && !match {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				t.faults = slices.Delete(slices.Clone(t.faults), i, i+1)
			}
		}
		return f
	}
	return nil
}

func (t *Tailnet) withFaults(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := t.fault(r)
		switch {
		case f == nil:
			h.ServeHTTP(w, r)
		case f.Code == 0:
			// A server notices that a client is gone only once it has read the body.
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxRequest))
			t.hanging.Add(1)
			defer t.hanging.Add(-1)
			hang(r.Context())
		default:
			f.answer(w)
		}
	})
}

// answer is that of a fault that has one.
func (f *Fault) answer(w http.ResponseWriter) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	kind, body := f.ContentType, f.Body
	if kind == "" {
		kind = "application/json"
	}
	if body == "" {
		msg := f.Message
		if msg == "" {
			msg = strings.ToLower(http.StatusText(f.Code))
		}
		b, _ := json.Marshal(map[string]string{"message": msg}) // strings cannot fail to encode
		body = string(b)
	}
	w.Header().Set("Content-Type", kind)
	if f.Cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	}
	w.WriteHeader(f.Code)
	_, _ = io.WriteString(w, body) // the client went away
	if f.Cut {
		_ = http.NewResponseController(w).Flush() // so that the client sees the beginning
		panic(http.ErrAbortHandler)
	}
}

// hang waits for the client to give up and then drops the connection.
func hang(ctx context.Context) {
	<-ctx.Done()
	panic(http.ErrAbortHandler)
}
