package config

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reason says in one word why a file is not in force. It is the label of the
// error metric.
type Reason string

// Reasons.
const (
	// Unreadable: missing, forbidden, not a regular file or too large.
	Unreadable Reason = "unreadable"
	// Syntax: not one complete HuJSON object, or a key twice.
	Syntax Reason = "syntax"
	// BadVersion: Version is missing or is not one that we know.
	BadVersion Reason = "version"
	// UnknownKey: a key that the format does not have.
	UnknownKey Reason = "unknown_key"
	// InvalidValue: a known key with a value that it cannot take.
	InvalidValue Reason = "invalid_value"
	// Refused: a key that asks for what an egress gateway does not do.
	Refused Reason = "refused"
	// BadAuthKey: the auth key cannot be read; see [Config.ReadAuthKey].
	BadAuthKey Reason = "auth_key"
	// ApplyFailed: the file is good, but [LoaderOptions.OnChange] failed.
	ApplyFailed Reason = "apply_failed"
)

// Reasons returns every reason there is, for metrics that start at zero.
func Reasons() []Reason {
	return []Reason{Unreadable, Syntax, BadVersion, UnknownKey, InvalidValue, Refused, BadAuthKey, ApplyFailed}
}

// Error says what is wrong with a file. It never holds an auth key.
type Error struct {
	// Path is that of the file.
	Path string
	// Line is where the trouble is, from 1; 0 when that is not known.
	Line int
	// Reason is the class of the trouble.
	Reason Reason
	// Msg says what is wrong and what to write instead: a sentence, or without a
	// Line what follows "file PATH".
	Msg string
	// Hash is that of the file's content, as in [Config.Hash]; "" when it could
	// not be read.
	Hash string
	// Err is the system's error, if that was the cause; errors.Is finds it.
	Err error
}

// Error returns the whole sentence, with file and line.
func (e *Error) Error() string {
	what := "config file"
	if e.Reason == BadAuthKey {
		what = "auth key file"
	}
	if e.Line > 0 {
		return fmt.Sprintf("%s %s, line %d: %s", what, e.Path, e.Line, e.Msg)
	}
	return fmt.Sprintf("%s %s %s", what, e.Path, e.Msg)
}

// Unwrap returns the system's error, or nil.
func (e *Error) Unwrap() error { return e.Err }

// redacted stands wherever a secret would.
const redacted = "[redacted]"

// quote returns what a user wrote, fit for a message: quoted, not too long, and
// never with an auth key in it, even one that was put into the wrong place.
func quote(s string, secrets []string) string {
	if strings.Contains(strings.ToLower(s), "tskey-") {
		return redacted
	}
	for _, secret := range secrets {
		if strings.Contains(s, secret) {
			return redacted
		}
	}
	const limit = 64 // runes
	if utf8.RuneCountInString(s) > limit {
		return strconv.Quote(string([]rune(s)[:limit]) + "…")
	}
	return strconv.Quote(s)
}

// lineAt returns the number, from 1, of the line that holds byte offset.
func lineAt(b []byte, offset int) int {
	return 1 + bytes.Count(b[:min(max(offset, 0), len(b))], []byte("\n"))
}

// nearest returns the name in names that is most like s, ignoring case, or "" when
// none is near enough to be meant.
func nearest(s string, names []string) string {
	const longest = 40 // no key is longer; the distance costs len(s)*len(name)
	if len(s) > longest {
		return ""
	}
	best, bestDistance := "", len(s)/3+2
	for _, name := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(name)); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
