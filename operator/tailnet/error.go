package tailnet

import (
	"fmt"
	"strings"
	"time"
)

// Reason is why a call failed, in one word, for conditions, events and metrics.
type Reason string

// Reasons.
const (
	// CredentialsRefused: the API does not know the OAuth client, or not with that secret.
	CredentialsRefused Reason = "CredentialsRefused"
	// PermissionDenied: the OAuth client lacks the scope.
	PermissionDenied Reason = "PermissionDenied"
	// TagNotOwned: the OAuth client may not give these tags.
	TagNotOwned Reason = "TagNotOwned"
	// RateLimited: the API asks for fewer requests; RetryAfter says when to go on.
	RateLimited Reason = "RateLimited"
	// TailnetNotFound: the OAuth client has no such tailnet.
	TailnetNotFound Reason = "TailnetNotFound"
	// NotFound: there is no such device. Deleting one that is absent succeeds instead.
	NotFound Reason = "NotFound"
	// Rejected: the API, or this package, does not take the request as it is.
	Rejected Reason = "Rejected"
	// Unavailable: the API has trouble of its own.
	Unavailable Reason = "Unavailable"
	// Unreachable: no connection came about, or it broke: name lookup, network, TLS.
	Unreachable Reason = "Unreachable"
	// TimedOut: no answer came in time.
	TimedOut Reason = "TimedOut"
	// BadResponse: the answer cannot be used: it was cut off, or it is not from the API.
	BadResponse Reason = "BadResponse"
	// Canceled: the caller's context ended, not by its deadline.
	Canceled Reason = "Canceled"
)

// Error is why a call failed. It holds no secret.
type Error struct {
	// Op is what failed, as a verb phrase: "mint an auth key".
	Op string
	// Reason is why, in one word.
	Reason Reason
	// Status is the HTTP status; 0: there was no answer.
	Status int
	// Message is what the API said, cleaned and at most some 200 characters; "": nothing.
	Message string
	// RetryAfter is how long the API asks to wait; 0: it does not say.
	RetryAfter time.Duration
	// Advice completes the sentence: what to do about it.
	Advice string
	// Err is the cause, if it is one of this side's: context.DeadlineExceeded, a network error. Print Message
	// instead, in which its text was cleaned.
	Err error
}

// Error returns a sentence: what failed, what was said, and what to do about it.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot %s: %s", e.Op, e.what())
	switch {
	case e.Status != 0 && e.Message != "":
		fmt.Fprintf(&b, " (%d: %s)", e.Status, e.Message)
	case e.Status != 0:
		fmt.Fprintf(&b, " (%d)", e.Status)
	case e.Message != "":
		fmt.Fprintf(&b, " (%s)", e.Message)
	}
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// what says what happened, between what failed and what the API said.
func (e *Error) what() string {
	switch e.Reason {
	case CredentialsRefused:
		return "the tailnet API refuses the OAuth client"
	case PermissionDenied:
		return "the OAuth client lacks the permission"
	case TagNotOwned:
		return "the OAuth client may not give these tags"
	case RateLimited:
		if e.RetryAfter > 0 {
			return "the tailnet API asks to wait " + e.RetryAfter.Round(time.Second).String()
		}
		return "the tailnet API asks for fewer requests"
	case TailnetNotFound:
		return "there is no such tailnet for this OAuth client"
	case NotFound:
		return "it is not in the tailnet"
	case Unavailable:
		return "the tailnet API has trouble of its own"
	case Unreachable:
		return "the tailnet API cannot be reached"
	case TimedOut:
		return "the tailnet API did not answer in time"
	case BadResponse:
		return "the answer cannot be used"
	case Canceled:
		return "the operator gave it up"
	}
	return "the request is not taken"
}
