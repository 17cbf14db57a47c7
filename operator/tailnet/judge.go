package tailnet

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	tsapi "tailscale.com/client/tailscale/v2"
)

// maxRetryAfter bounds what the API can ask for: a wrong clock somewhere must not stop us for a day.
const maxRetryAfter = time.Hour

// What to do about it, where the reason alone says it.
const (
	adviceCredentials = "make an OAuth client with the scopes auth_keys and devices:core in the tailnet's admin console, and write it to " +
		KeyClientID + " and " + KeyClientSecret + " in the credentials Secret"
	adviceTailnet = "write the tailnet's name to " + KeyTailnet + ` in the credentials Secret, or "-" for the one that the OAuth client belongs to`
	adviceTags    = "name a tag of the OAuth client as an owner of them in tagOwners of the tailnet's policy, or write tags that it owns into spec.tags"
	adviceWait    = "nothing has to be done, it is tried again"
	adviceStatus  = "it is tried again; see https://status.tailscale.com if it stays so"
	adviceSlow    = "it is tried again; look at the network between the operator and the API if it stays so"
	adviceNetwork = "look at the operator's DNS, network policies and proxy settings"
	adviceURL     = "look at the operator's --tailnet-api-url and at proxies on the way"
)

// judge returns what an answer means for the operation; nil: it succeeded.
func (c *Client) judge(op operation, res *http.Response, body []byte) *Error {
	said, isAPI := c.said(body)
	status := res.StatusCode
	e := &Error{Op: op.verb, Status: status, Message: said, RetryAfter: c.retryAfter(res.Header)}
	switch {
	case status >= 200 && status < 300:
		if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "text/html" {
			return badResponse(op, status, "it is a web page")
		}
		return nil
	case status == http.StatusTooManyRequests:
		e.Reason, e.Advice = RateLimited, adviceWait
	case status >= 500 || status == http.StatusRequestTimeout:
		e.Reason, e.Advice = Unavailable, adviceStatus
	case status < 400:
		return badResponse(op, status, "it leads elsewhere, and redirects are not followed")
	case status == http.StatusUnauthorized, op.token && (status == http.StatusBadRequest || status == http.StatusForbidden):
		e.Reason, e.Advice = CredentialsRefused, adviceCredentials
	case op.token, status == http.StatusNotFound && !isAPI:
		return badResponse(op, status, "there is no such page")
	case status == http.StatusNotFound && op.inTailnet:
		e.Reason, e.Advice = TailnetNotFound, adviceTailnet
	case status == http.StatusNotFound:
		e.Reason = NotFound
	case len(op.tags) > 0 && (status == http.StatusBadRequest || status == http.StatusForbidden) && strings.Contains(said, "tag"):
		e.Reason, e.Advice = TagNotOwned, adviceTags
	case status == http.StatusForbidden:
		e.Reason, e.Advice = PermissionDenied, "give the OAuth client the scope "+op.scope+" (write), or make another one that has it"
	default:
		e.Reason = Rejected
	}
	return e
}

// localPort is this side of a connection in a network error. It is another one each time, and the text goes
// into conditions, which should change only when there is something new to say.
var localPort = regexp.MustCompile(`\S+:\d+->`)

// noAnswer is for a request that failed without a whole answer. res is nil if not even its head came.
func (c *Client) noAnswer(op operation, res *http.Response, err error) *Error {
	text := localPort.ReplaceAllString(err.Error(), "")
	e := &Error{Op: op.verb, Reason: Unreachable, Message: c.clean(text), Err: err}
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		e.Reason, e.Message = Canceled, ""
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		e.Reason, e.Message, e.Advice = TimedOut, "", adviceSlow
	case errors.Is(err, errTooLong):
		return badResponse(op, res.StatusCode, "it is too long")
	case res != nil:
		return badResponse(op, res.StatusCode, "it was cut off")
	default:
		e.Advice = adviceNetwork
	}
	return e
}

func badResponse(op operation, status int, what string) *Error {
	return &Error{Op: op.verb, Reason: BadResponse, Status: status, Message: what, Advice: adviceURL}
}

// rejected is for a request that is not even made.
func rejected(op operation, why string) *Error {
	return &Error{Op: op.verb, Reason: Rejected, Message: why}
}

// said returns the API's own words in an answer's body, and whether it is an answer of the API.
func (c *Client) said(body []byte) (words string, isAPI bool) {
	var e tsapi.APIError
	if err := json.Unmarshal(body, &e); err != nil || e.Message == "" {
		return "", false
	}
	return c.clean(e.Message), true
}

// keyLike is every secret that Tailscale gives out, known to us or not.
var keyLike = regexp.MustCompile(`tskey-[A-Za-z0-9-]+`)

// clean returns text in one line of at most 200 characters, without secrets.
func (c *Client) clean(text string) string {
	const most = 200
	if s := c.cred.ClientSecret; s != "" {
		text = strings.ReplaceAll(text, s, "[secret]")
	}
	text = keyLike.ReplaceAllString(text, "[secret]")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// retryAfter reads the header, seconds or a date (RFC 9110, section 10.2.3); 0: there is none.
func (c *Client) retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	d := time.Duration(0)
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(c.now())
	}
	return min(max(d, 0), maxRetryAfter)
}
