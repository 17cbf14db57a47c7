package tailnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// maxBody bounds what is read of an answer, in bytes. A listing of 40,000 keys fits.
const maxBody = 1 << 20

// exchange is what the transport found out about one call. The API client drops an answer's status when its
// body is no JSON, and all headers.
type exchange struct {
	op     operation
	status int
	err    *Error
}

type exchangeKey struct{}

// authorized is the API client's transport: it adds the access token.
type authorized struct{ c *Client }

// RoundTrip makes the request, and once more with another token when the API no longer takes one
// that was fetched for an earlier call.
func (a authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	c, ctx := a.c, req.Context()
	x, _ := ctx.Value(exchangeKey{}).(*exchange) // there is one: only call makes requests
	tok, fresh, err := c.accessToken(ctx, x, nil)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	res, err := c.send(authorize(req, tok), x)
	if x.status != http.StatusUnauthorized {
		return res, err
	}
	if fresh {
		c.cached(tok) // no later call shall use it
		return res, err
	}
	if tok, _, err = c.accessToken(ctx, x, tok); err != nil {
		return nil, err
	}
	again := req.Clone(ctx)
	if again.Body, err = req.GetBody(); err != nil { // it is there: the API client sends buffers
		return nil, fmt.Errorf("repeat request: %w", err)
	}
	return c.send(authorize(again, tok), x)
}

func authorize(req *http.Request, tok *oauth2.Token) *http.Request {
	req = req.Clone(req.Context()) // a transport must not change what it was given
	tok.SetAuthHeader(req)
	return req
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // a buffer
	}
}

// accessToken returns a token that is not spent, which is nil or one that the API refused, and whether it was
// fetched just now. However many calls need one, it is fetched once, and what came of it holds for all of
// them: an endpoint that hangs costs each of them one timeout. The error is also in x.
func (c *Client) accessToken(ctx context.Context, x *exchange, spent *oauth2.Token) (tok *oauth2.Token, fresh bool, err error) {
	if tok = c.cached(spent); tok.Valid() {
		return tok, false, nil
	}
	x.status = 0
	fetched := c.fetching.DoChan("", func() (any, error) {
		if tok := c.cached(nil); tok.Valid() { // fetched meanwhile
			return tok, nil
		}
		return c.fetchToken(context.WithoutCancel(ctx)) // others wait for it, too
	})
	select {
	case r := <-fetched:
		if failed, ok := errors.AsType[*Error](r.Err); ok {
			mine := *failed
			mine.Op, x.err = x.op.verb, &mine
			return nil, false, x.err
		}
		tok, _ = r.Val.(*oauth2.Token)
		return tok, true, nil
	case <-ctx.Done():
		x.err = c.noAnswer(x.op, nil, ctx.Err())
		return nil, false, x.err
	}
}

// cached returns the token at hand, which may be nil; never the spent one, which is forgotten.
func (c *Client) cached(spent *oauth2.Token) *oauth2.Token {
	c.mu.Lock()
	defer c.mu.Unlock()
	if spent != nil && c.token == spent {
		c.token = nil
	}
	return c.token
}

// fetchToken asks for an access token (RFC 6749, section 4.4). The error is an [*Error] that lacks what for.
func (c *Client) fetchToken(ctx context.Context) (*oauth2.Token, error) {
	x := &exchange{op: operation{name: "token", token: true}}
	config := clientcredentials.Config{
		ClientID: c.cred.ClientID, ClientSecret: c.cred.ClientSecret, TokenURL: c.tokenURL,
		AuthStyle: oauth2.AuthStyleInParams, // as documented; to find it out takes a second request
	}
	tok, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, httpClient(tokens{c, x})))
	switch {
	case x.err != nil:
		return nil, x.err
	case err != nil:
		return nil, badResponse(x.op, x.status, "it holds no access token")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = tok
	return tok, nil
}

// tokens is the transport of the token endpoint.
type tokens struct {
	c *Client
	x *exchange
}

// RoundTrip makes the request.
func (t tokens) RoundTrip(req *http.Request) (*http.Response, error) { return t.c.send(req, t.x) }

// send makes one HTTP request, in its turn, and reads the answer whole. What x says of an earlier one is
// replaced; an error is also in x.
func (c *Client) send(req *http.Request, x *exchange) (*http.Response, error) {
	x.status, x.err = 0, nil
	if err := c.turn(req.Context(), x.op); err != nil {
		closeBody(req)
		x.err = err
		return nil, err
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(req.Context(), c.timeout)
	defer cancel()
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", c.userAgent)
	res, err := c.transport.RoundTrip(req)
	var body []byte
	if err == nil {
		x.status = res.StatusCode
		body, err = readBody(res)
	}
	if err != nil {
		x.err = c.noAnswer(x.op, res, err)
	} else {
		x.err = c.judge(x.op, res, body)
	}
	c.note(ctx, x, time.Since(start))
	if err != nil {
		return nil, x.err
	}
	return res, nil
}

// note tells of a request that was made.
func (c *Client) note(ctx context.Context, x *exchange, took time.Duration) {
	r := Request{Op: x.op.name, Duration: took}
	if x.err != nil {
		r.Reason = x.err.Reason
		if x.err.Reason == RateLimited {
			c.hold(x.err.RetryAfter)
		}
	}
	c.observe(r)
	c.log.DebugContext(ctx, "tailnet API request", "op", r.Op, "status", x.status, "reason", r.Reason, "took", took)
}

// turn waits until the request may leave. While the API asks for a pause it does not wait: that can be minutes,
// and a caller who is told how long has better things to do, such as saying so in a condition.
func (c *Client) turn(ctx context.Context, op operation) *Error {
	if err := c.held(op); err != nil {
		return err
	}
	if err := c.limiter.Wait(ctx); err != nil {
		if ctx.Err() == nil { // it would come too late, so the limiter did not even wait
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return c.noAnswer(op, nil, err)
	}
	return c.held(op) // perhaps since
}

// hold lets no request leave for d.
func (c *Client) hold(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.now().Add(d); t.After(c.until) {
		c.until = t
	}
}

// held returns an error while no request may leave.
func (c *Client) held(op operation) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := c.until.Sub(c.now())
	if wait <= 0 {
		return nil
	}
	return &Error{Op: op.verb, Reason: RateLimited, RetryAfter: wait, Advice: adviceWait}
}

var errTooLong = errors.New("answer too long")

// readBody reads an answer to its end and puts what it read in its place.
func readBody(res *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if cerr := res.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && len(body) > maxBody {
		err = errTooLong
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}
