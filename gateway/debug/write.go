package debug

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

func (p *Pages) writePage(w http.ResponseWriter, name string, content markup) {
	p.write(w, http.StatusOK, "text/html; charset=utf-8", []byte(document(name, p.o.Version, p.o.Now(), content)))
}

func (p *Pages) writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		p.writeText(w, http.StatusInternalServerError, fmt.Sprintf("encode as JSON: %v\n", err))
		return
	}
	p.write(w, http.StatusOK, "application/json", append(b, '\n'))
}

func (p *Pages) writeText(w http.ResponseWriter, code int, text string) {
	p.write(w, code, "text/plain; charset=utf-8", []byte(text))
}

// write is the one way out for all that we compose ourselves.
func (p *Pages) write(w http.ResponseWriter, code int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(p.redact(body)) // who asked has gone
}

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
	for _, form := range [][]byte{[]byte(key), []byte(text(key)), bytes.Trim(inJSON, `"`)} {
		body = bytes.ReplaceAll(body, form, []byte(redacted))
	}
	return body
}
