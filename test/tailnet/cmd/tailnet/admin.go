//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"tailscale.com/tailcfg"

	"github.com/rajsinghtech/tailgate/test/tailnet"
)

// maxBody bounds an admin request, in bytes.
const maxBody = 1 << 20

// adminHandler is the admin interface; serveUsage describes it.
func adminHandler(tn *tailnet.Tailnet) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if v != nil {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(v) // the client went away
			}
		})
	}
	done := func(f func()) func(*http.Request) (any, error) {
		return func(*http.Request) (any, error) { f(); return nil, nil }
	}
	handle("GET /nodes", func(*http.Request) (any, error) { return tn.Nodes(), nil })
	handle("DELETE /nodes/{name}", func(r *http.Request) (any, error) {
		n, err := nodeOf(tn, r)
		tn.DeleteNode(n.StableID)
		return nil, err
	})
	handle("POST /nodes/{name}/expire", func(r *http.Request) (any, error) {
		n, err := nodeOf(tn, r)
		tn.ExpireNode(n.StableID)
		return nil, err
	})
	handle("PUT /nodes/{name}/routes", body(func(r *http.Request, routes []netip.Prefix) (any, error) {
		return nil, tn.ApproveRoutes(r.PathValue("name"), routes...)
	}))
	// An attribute may have slashes, as "tailscale.com/app-connectors" does.
	handle("PUT /nodes/{name}/attrs/{attr...}", body(func(r *http.Request, values []json.RawMessage) (any, error) {
		var raw []tailcfg.RawMessage
		for _, v := range values {
			raw = append(raw, tailcfg.RawMessage(v))
		}
		return nil, tn.SetNodeAttr(r.PathValue("name"), tailcfg.NodeCapability(r.PathValue("attr")), raw...)
	}))
	handle("GET /keys", func(*http.Request) (any, error) { return tn.Keys(), nil })
	handle("POST /keys", body(func(_ *http.Request, o keyRequest) (any, error) {
		o.Expiry = time.Duration(o.ExpirySeconds) * time.Second
		return tn.CreateKey(o.KeyOptions), nil
	}))
	handle("DELETE /keys/{id}", func(r *http.Request) (any, error) {
		if !tn.RevokeKey(r.PathValue("id")) {
			return nil, fmt.Errorf("no key in force has the ID %q", r.PathValue("id"))
		}
		return nil, nil
	})
	handle("PUT /grants", body(func(_ *http.Request, g []tailnet.Grant) (any, error) { return nil, tn.SetGrants(g) }))
	handle("PUT /dns", body(func(_ *http.Request, d tailnet.DNS) (any, error) { return nil, tn.SetDNS(d) }))
	handle("POST /freeze", done(tn.Freeze))
	handle("POST /thaw", done(tn.Thaw))
	handle("POST /refuse/{code}", func(r *http.Request) (any, error) { return nil, refuse(tn, r.PathValue("code")) })
	handle("POST /faults", body(func(_ *http.Request, f tailnet.Fault) (any, error) { return nil, tn.Fail(f) }))
	handle("DELETE /faults", done(tn.ClearFaults))
	return mux
}

// keyRequest is what POST /keys takes.
type keyRequest struct {
	tailnet.KeyOptions
	// ExpirySeconds is how long the key lasts; 0: 90 days.
	ExpirySeconds int64
}

// body reads a request's JSON before f.
func body[T any](f func(*http.Request, T) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var v T
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("request body: %w", err)
		}
		return f(r, v)
	}
}

func nodeOf(tn *tailnet.Tailnet, r *http.Request) (tailnet.Node, error) {
	n, ok := tn.Node(r.PathValue("name"))
	if !ok {
		return n, fmt.Errorf("no node is called %q", r.PathValue("name"))
	}
	return n, nil
}

func refuse(tn *tailnet.Tailnet, s string) error {
	code, err := strconv.Atoi(s)
	if err != nil || code != 0 && (code < 400 || code > 599) {
		return fmt.Errorf("%q is no HTTP error; use 400 to 599, or 0 to serve again", s)
	}
	tn.Refuse(code)
	return nil
}
