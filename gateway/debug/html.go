package debug

import (
	"html"
	"strings"
)

// markup is HTML. A constant becomes markup as it stands, for we wrote it; a string from elsewhere does
// not compile as markup before [text] or [attribute] has escaped it. Only this file converts.
type markup string

// text returns s as HTML that shows it.
func text(s string) markup { return markup(html.EscapeString(s)) }

// attribute returns an attribute to follow an element's name, with the space before it.
func attribute(name markup, value string) markup { return " " + name + `="` + text(value) + `"` }

// element returns an element around content. The tag is its name, then its attributes as they stand in HTML.
// It is not for elements that have no end tag.
func element(tag markup, content ...markup) markup {
	name, _, _ := strings.Cut(string(tag), " ")
	return "<" + tag + ">" + concat(content...) + "</" + markup(name) + ">"
}

// concat returns the parts one after the other.
func concat(parts ...markup) markup {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(string(part))
	}
	return markup(b.String())
}

// choose returns yes when ok, otherwise no; "" is nothing at all.
func choose(ok bool, yes, no markup) markup {
	if ok {
		return yes
	}
	return no
}
