package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"tailscale.com/ipn/ipnauth"
	"tailscale.com/ipn/localapi"
	"tailscale.com/types/logid"
)

// serveSockets listens on both unix sockets. The folder is closed to others before either exists.
func (n *Node) serveSockets() (stop func(), err error) {
	if err := makeDir(n.o.SocketDir); err != nil {
		return nil, err
	}
	var servers []*http.Server
	stop = func() {
		for _, s := range servers {
			_ = s.Close()
		}
	}
	for name, h := range map[string]http.Handler{SnapshotSocket: n.pub.Handler(), LocalAPISocket: http.HandlerFunc(n.serveLocalAPI)} {
		ln, err := listenUnix(n.socket(name))
		if err != nil {
			stop()
			return nil, err
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, s)
		go func() {
			if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				n.log.Error("socket closed", "socket", ln.Addr().String(), "err", err)
			}
		}()
	}
	return stop, nil
}

// listenUnix replaces a socket that a killed process left.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close socket to others: %w", err), ln.Close())
	}
	return ln, nil
}

// serveLocalAPI is Tailscale's LocalAPI, read-only while the configuration is locked (the default):
// what "tailscale set" changed would be undone by the next change of the file.
func (n *Node) serveLocalAPI(w http.ResponseWriter, r *http.Request) {
	b := n.backendOrNil()
	if b == nil {
		http.Error(w, "the gateway has not started its backend yet; see /debug", http.StatusServiceUnavailable)
		return
	}
	h := localapi.NewHandler(localapi.HandlerConfig{
		Actor: ipnauth.Self, Backend: b.LocalBackend, Logf: n.engineLog(r.Context()), LogID: logid.PublicID{}, EventBus: b.sys.Bus.Get(),
	})
	cfg := n.loader.Current()
	h.PermitRead, h.PermitWrite = true, cfg != nil && !cfg.Locked
	if !h.PermitWrite && changes(r) {
		http.Error(w, "the gateway's configuration is locked; change its file, or set \"Locked\": false there", http.StatusForbidden)
		return
	}
	h.PermitWrite = h.PermitWrite || !changes(r) // ping, whois and debug queries by POST stay possible
	h.ServeHTTP(w, r)
}

// asks are the requests by POST that change nothing.
var asks = map[string]bool{
	"/localapi/v0/ping":        true,
	"/localapi/v0/bugreport":   true,
	"/localapi/v0/check-prefs": true,
}

// changes reports whether a LocalAPI request may change the node.
func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && !asks[r.URL.Path]
}
