package page

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Site is what the pages of one program have in common.
type Site struct {
	// Program is the program's name, Version its build's.
	Program, Version string
	// Pages are those made for a person, as each of them links all: /debug/ and the name.
	Pages []string
	// Now is the clock.
	Now func() time.Time
	// Filter changes all that goes out, as the last; nil: nothing is changed.
	Filter func([]byte) []byte
}

//go:embed page.css
var styleSheet Markup

// Document returns the whole page of that name around its content. asJSON is where the same is to be had as JSON;
// "": nowhere.
func (s *Site) Document(name, asJSON string, content Markup) Markup {
	head := Concat(
		`<meta charset="utf-8">`+"\n",
		`<meta name="viewport" content="width=device-width, initial-scale=1">`+"\n",
		Element("title", Text(name), " – ", Text(s.Program)), "\n",
		Element("style", "\n", styleSheet), "\n",
	)
	footer := Element("footer", Text(s.Program), " ", Text(s.Version), " at ", Text(Clock(s.Now())),
		Choose(asJSON != "", " · "+Link(asJSON, "as JSON"), ""))
	return "<!DOCTYPE html>\n" + Element(`html lang="en"`, "\n",
		Element("head", "\n", head), "\n",
		Element("body", "\n", s.navigation(name), "\n", content, footer, "\n"), "\n",
	) + "\n"
}

// navigation links every page, and marks the one of that name.
func (s *Site) navigation(name string) Markup {
	links := Link("/debug/", "all pages") + "\n"
	for _, page := range s.Pages {
		tag := "a" + Attribute("href", "/debug/"+page)
		if page == name {
			tag += ` class="here" aria-current="page"`
		}
		links += Element(tag, Text(page)) + "\n"
	}
	return Element("nav", "\n", links)
}

// WritePage answers with a [Site.Document].
func (s *Site) WritePage(w http.ResponseWriter, code int, name, asJSON string, content Markup) {
	s.Write(w, code, "text/html; charset=utf-8", []byte(s.Document(name, asJSON, content)))
}

// WriteJSON answers with v.
func (s *Site) WriteJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.WriteText(w, http.StatusInternalServerError, fmt.Sprintf("encode as JSON: %v\n", err))
		return
	}
	s.Write(w, code, "application/json", append(b, '\n'))
}

// WriteText answers with plain text.
func (s *Site) WriteText(w http.ResponseWriter, code int, text string) {
	s.Write(w, code, "text/plain; charset=utf-8", []byte(text))
}

// Write is the one way out for all that we compose ourselves.
func (s *Site) Write(w http.ResponseWriter, code int, contentType string, body []byte) {
	if s.Filter != nil {
		body = s.Filter(body)
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // who asked has gone
}
