package debug

import (
	_ "embed"
	"time"
)

// htmlPages are the pages made for a person, as each of them links all.
var htmlPages = []string{"netmap", "config", "kernel", "members"}

//go:embed page.css
var styleSheet markup

// document returns the whole page of that name around its content.
func document(name, version string, now time.Time, content markup) markup {
	head := concat(
		`<meta charset="utf-8">`+"\n",
		`<meta name="viewport" content="width=device-width, initial-scale=1">`+"\n",
		element("title", text(name), " – tailgate-gateway"), "\n",
		element("style", "\n", styleSheet), "\n",
	)
	footer := element("footer", "tailgate-gateway ", text(version), " at ", text(clock(now)), " · ",
		element("a"+attribute("href", "/debug/"+name+".json"), "as JSON"))
	return "<!DOCTYPE html>\n" + element(`html lang="en"`, "\n",
		element("head", "\n", head), "\n",
		element("body", "\n", navigation(name), "\n", content, footer, "\n"), "\n",
	) + "\n"
}

// navigation links every page, and marks the one of that name.
func navigation(name string) markup {
	links := element(`a href="/debug/"`, "all pages") + "\n"
	for _, page := range htmlPages {
		tag := "a" + attribute("href", "/debug/"+page)
		if page == name {
			tag += ` class="here" aria-current="page"`
		}
		links += element(tag, text(page)) + "\n"
	}
	return element("nav", "\n", links)
}
