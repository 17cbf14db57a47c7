package debug

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/rajsinghtech/tailgate/internal/page"
)

const redacted = "[redacted]"

// tailscaleKey is the form of Tailscale's keys of any kind: auth keys, API keys, OAuth secrets.
var tailscaleKey = regexp.MustCompile(`tskey-[A-Za-z0-9_-]+`)

// redact takes auth keys out of a page. There should be none: each part leaves them out. But the
// control plane's error messages and a key written into the wrong field of the file are shown as they are.
func (p *Pages) redact(body []byte) []byte {
	body = tailscaleKey.ReplaceAllLiteral(body, []byte(redacted))
	cfg := p.o.Node.Config()
	if cfg == nil {
		return body
	}
	key, err := cfg.ReadAuthKey()
	if err != nil {
		return body // there is none
	}
	key, _, _ = strings.Cut(key, "?")
	const shortest = 8 // anything shorter is no key, and might stand anywhere
	if len(key) < shortest {
		return body
	}
	inJSON, err := json.Marshal(key)
	if err != nil {
		return body
	}
	for _, form := range [][]byte{[]byte(key), []byte(page.Text(key)), bytes.Trim(inJSON, `"`)} {
		body = bytes.ReplaceAll(body, form, []byte(redacted))
	}
	return body
}
