//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// proxy passes requests on to the tailnet's API and counts them.
type proxy struct {
	url    string
	server *http.Server
	count  atomic.Int64
}

func startProxy(target string) (*proxy, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("count requests to the tailnet: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("count requests to the tailnet: %w", err)
	}
	p := &proxy{url: "http://" + listener.Addr().String()}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	p.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count.Add(1)
		pass.ServeHTTP(w, r)
	})}
	go func() { _ = p.server.Serve(listener) }() // until close
	return p, nil
}

func (p *proxy) close() error { return p.server.Close() }
