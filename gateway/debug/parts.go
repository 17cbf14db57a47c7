package debug

import (
	"cmp"
	"strconv"
)

// title is a page's first heading, with what it says of the whole beside it.
func title(name, beside markup) markup { return "\n" + element("h1", name, " ", beside) + "\n" }

// section is a heading within a page.
func section(name ...markup) markup { return "\n" + element("h2", name...) + "\n" }

// verdict says yes as something good, or no as something bad.
func verdict(ok bool, yes, no markup) markup {
	if ok {
		return element(`span class="good"`, yes)
	}
	return element(`span class="bad"`, no)
}

// soft is what matters less than its surroundings.
func soft(content ...markup) markup { return element(`span class="soft"`, content...) }

// note is a line of its own that matters less than the one above it; nothing when it is empty.
func note(content markup) markup {
	return choose(content != "", element(`div class="soft"`, content), "")
}

// problems lists those sentences that are not ""; nothing when all are.
func problems(sentences ...string) markup {
	var items markup
	for _, s := range sentences {
		if s != "" {
			items += element("li", text(s))
		}
	}
	return choose(items != "", element(`ul class="problems"`, items)+"\n", "")
}

// facts is a table of [fact] rows.
func facts(rows ...markup) markup {
	return element("table", element("tbody", "\n", concat(rows...))) + "\n"
}

// fact is a row that gives something's name and what it is.
func fact(name markup, value ...markup) markup {
	return row(element("th", name), cell("", value...))
}

// table has a column for each heading. Without rows, none says so in their place.
func table(headings []markup, rows []markup, none markup) markup {
	if len(rows) == 0 {
		span := attribute("colspan", strconv.Itoa(len(headings)))
		rows = []markup{row(element("td"+span+` class="soft"`, none))}
	}
	head := element("tr", each(headings, func(h markup) markup { return element("th", h) })...)
	return element("table", "\n", element("thead", head), "\n", element("tbody", "\n", concat(rows...)), "\n")
}

// scrolling is for a table that may be wider than the page.
func scrolling(table markup) markup { return element(`div class="scroll"`, table) + "\n" }

func row(cells ...markup) markup { return element("tr", cells...) + "\n" }

// cell is one of a row, with a class of the style sheet's; "": none.
func cell(class markup, content ...markup) markup {
	return element("td"+choose(class != "", ` class="`+class+`"`, ""), content...)
}

func count(n uint64) markup { return cell("number", text(strconv.FormatUint(n, 10))) }

func size(bytes uint64) markup { return cell("number", text(byteCount(bytes))) }

// list is one item a line, without bullets.
func list(items []string) markup {
	return element(`ul class="plain"`, each(items, func(s string) markup { return element("li", text(s)) })...)
}

// listing shows lines as they are.
func listing(lines []string) markup {
	if len(lines) == 0 {
		return element(`p class="soft"`, "nothing") + "\n"
	}
	return element("pre", each(lines, func(s string) markup { return text(s) + "\n" })...) + "\n"
}

// textOr is s, or what stands for an empty one.
func textOr(s string, otherwise markup) markup { return cmp.Or(text(s), otherwise) }
