package tailnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
)

// The keys of the Secret that holds the credentials.
const (
	KeyTailnet      = "TS_TAILNET"
	KeyClientID     = "TS_OAUTH_CLIENT_ID"
	KeyClientSecret = "TS_OAUTH_CLIENT_SECRET"
)

// Credentials are an OAuth client of a tailnet (https://tailscale.com/kb/1215/oauth-clients). However
// they are printed, logged or encoded, the secret does not show.
type Credentials struct {
	// Tailnet is the tailnet's name or ID; "-" is the one that the client belongs to.
	Tailnet string
	// ClientID and ClientSecret are the OAuth client's.
	ClientID, ClientSecret string
}

// String returns the client's ID and its tailnet.
func (c Credentials) String() string {
	return fmt.Sprintf("OAuth client %s of tailnet %s", c.ClientID, c.Tailnet)
}

// GoString is [Credentials.String], so that %#v shows no secret either.
func (c Credentials) GoString() string { return c.String() }

// LogValue is what slog prints.
func (c Credentials) LogValue() slog.Value {
	return slog.GroupValue(slog.String("tailnet", c.Tailnet), slog.String("client", c.ClientID))
}

// MarshalJSON encodes what [Credentials.String] returns.
func (c Credentials) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// ParseSecret returns the credentials that the data of a Secret holds, without white space around them. The
// error has a sentence for each key that is missing or odd, in one line.
func ParseSecret(data map[string][]byte) (Credentials, error) {
	var wrong []string
	read := func(key, example string, odd func(string) string) string {
		v := strings.TrimSpace(string(data[key]))
		switch _, ok := data[key]; {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s is missing; write %s", key, example))
		case v == "":
			wrong = append(wrong, fmt.Sprintf("%s is empty; write %s", key, example))
		default:
			if msg := odd(v); msg != "" {
				wrong = append(wrong, fmt.Sprintf("%s %s; write %s", key, msg, example))
			}
		}
		return v
	}
	c := Credentials{
		Tailnet:      read(KeyTailnet, `the tailnet's name, or "-" for the one that the OAuth client belongs to`, oddTailnet),
		ClientID:     read(KeyClientID, "the OAuth client's ID", oddID),
		ClientSecret: read(KeyClientSecret, "the OAuth client's secret, which begins with tskey-client-", oddSecret),
	}
	if len(wrong) > 0 {
		return Credentials{}, errors.New(strings.Join(wrong, "; "))
	}
	return c, nil
}

// oddTailnet returns what is wrong with a tailnet's name; "" for nothing. Names are domains, mail
// addresses and IDs.
func oddTailnet(s string) string {
	if strings.ContainsFunc(s, notVisible) || strings.ContainsAny(s, `/\?#%`) || strings.Trim(s, ".") == "" {
		return "is no tailnet's name"
	}
	return ""
}

func oddID(s string) string {
	switch {
	case strings.HasPrefix(s, "tskey-"):
		return "holds a secret or a key"
	case strings.ContainsFunc(s, notVisible):
		return "holds white space or characters that no ID has"
	}
	return ""
}

// oddSecret quotes nothing.
func oddSecret(s string) string {
	switch {
	case strings.HasPrefix(s, "tskey-api-"):
		return "holds an API access token"
	case strings.HasPrefix(s, "tskey-auth-"):
		return "holds an auth key"
	case strings.ContainsFunc(s, notVisible):
		return "holds white space or characters that no secret has"
	}
	return ""
}

// notVisible reports whether r is white space, a control character or no ASCII.
func notVisible(r rune) bool { return r <= ' ' || r > unicode.MaxASCII-1 }
