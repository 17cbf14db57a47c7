package controller_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// requests records what an operator asks of the API server.
type requests struct {
	mu  sync.Mutex
	all []asked
	// intercept, if not nil, makes each request instead.
	intercept func(req *http.Request, body []byte, next http.RoundTripper) (*http.Response, error)
}

type asked struct{ method, path, query, kind string }

func (r asked) String() string {
	return fmt.Sprintf("%s %s?%s (%s)", r.method, r.path, r.query, r.kind)
}

func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		r.mu.Lock()
		r.all = append(r.all, asked{req.Method, req.URL.Path, req.URL.RawQuery, req.Header.Get("Content-Type")})
		intercept := r.intercept
		r.mu.Unlock()
		if intercept == nil {
			return next.RoundTrip(req)
		}
		body, err := bodyOf(req)
		if err != nil {
			return nil, err
		}
		return intercept(req, body, next)
	})
}

func bodyOf(req *http.Request) ([]byte, error) {
	if req.GetBody == nil {
		return nil, nil
	}
	rc, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(rc)
	return b.Bytes(), err
}

func (r *requests) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// reset forgets what was recorded.
func (r *requests) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}

// list returns what was recorded.
func (r *requests) list() []asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// writes returns what was written, but for leader election and events.
func (r *requests) writes() (out []asked) {
	for _, q := range r.list() {
		if q.method != http.MethodGet && !bytes.Contains([]byte(q.path), []byte("/events")) && !bytes.Contains([]byte(q.path), []byte("/leases")) {
			out = append(out, q)
		}
	}
	return out
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// logBuffer is a log that many write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail returns the end of the log.
func (l *logBuffer) tail() string {
	s := l.String()
	return s[max(0, len(s)-4000):]
}
