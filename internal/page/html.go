package page

import (
	"html"
	"strings"
)

// Markup is HTML. A constant becomes markup as it stands, for we wrote it; a string from elsewhere does
// not compile as markup before [Text] or [Attribute] has escaped it. Only this file converts.
type Markup string

// Text returns s as HTML that shows it.
func Text(s string) Markup { return Markup(html.EscapeString(s)) }

// TextOr is s, or what stands for an empty one.
func TextOr(s string, otherwise Markup) Markup { return Choose(s != "", Text(s), otherwise) }

// Attribute returns an attribute to follow an element's name, with the space before it.
func Attribute(name Markup, value string) Markup { return " " + name + `="` + Text(value) + `"` }

// Element returns an element around content. The tag is its name, then its attributes as they stand in HTML.
// It is not for elements that have no end tag.
func Element(tag Markup, content ...Markup) Markup {
	name, _, _ := strings.Cut(string(tag), " ")
	return "<" + tag + ">" + Concat(content...) + "</" + Markup(name) + ">"
}

// Concat returns the parts one after the other.
func Concat(parts ...Markup) Markup {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(string(part))
	}
	return Markup(b.String())
}

// Choose returns yes when ok, otherwise no; "" is nothing at all.
func Choose(ok bool, yes, no Markup) Markup {
	if ok {
		return yes
	}
	return no
}
