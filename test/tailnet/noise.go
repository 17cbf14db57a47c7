package tailnet

import (
	"encoding/json"
	"io"
	"net/http"

	"golang.org/x/net/http2"
	"tailscale.com/control/controlhttp/controlhttpserver"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// maxRequest bounds a request's body, in bytes.
const maxRequest = 1 << 20

// controlHandler serves what a node asks before and through Noise.
func (t *Tailnet) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /key", t.serveKey)
	mux.HandleFunc("POST /ts2021", t.serveNoise)
	mux.HandleFunc("GET /generate_204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return t.gate(mux)
}

func (t *Tailnet) serveKey(w http.ResponseWriter, _ *http.Request) {
	answer(w, tailcfg.OverTLSPublicKeyResponse{LegacyPublicKey: t.legacy.Public(), PublicKey: t.noise.Public()})
}

// serveNoise takes the connection over and serves HTTP/2 inside it.
func (t *Tailnet) serveNoise(w http.ResponseWriter, r *http.Request) {
	conn, err := controlhttpserver.AcceptHTTP(r.Context(), w, r, t.noise, nil)
	if err != nil {
		t.opts.Logf("control: accept Noise from %v: %v", r.RemoteAddr, err)
		return
	}
	defer conn.Close()
	// The hijacked connection is out of the outer server's hands.
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-t.ctx.Done():
			_ = conn.Close()
		case <-done:
		}
	}()
	machine, derp := conn.Peer(), t.derpFor(r.Host)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /machine/register", func(w http.ResponseWriter, r *http.Request) { t.serveRegister(w, r, machine) })
	mux.HandleFunc("POST /machine/map", func(w http.ResponseWriter, r *http.Request) { t.serveMap(w, r, machine, derp) })
	// Reports that a tailnet without an admin console has no use for.
	for _, path := range []string{"/machine/update-health", "/machine/set-device-attr", "/machine/audit-log"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxRequest))
			w.WriteHeader(http.StatusNoContent)
		})
	}
	// http.Server serves listeners; this is one connection, which speaks HTTP/2 from its first byte.
	var h2 http2.Server                      //nolint:staticcheck // see above
	h2.ServeConn(conn, &http2.ServeConnOpts{ //nolint:staticcheck // see above
		Context:    t.ctx,
		BaseConfig: &http.Server{},
		Handler:    t.gate(mux),
	})
}

// decode reads a JSON request; on failure it has answered.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(v); err != nil {
		http.Error(w, "bad request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The client went away: nobody is left to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// machineOf guards against a node that uses another's key.
func machineOf(n *node, machine key.MachinePublic) bool { return n != nil && n.machine == machine }
