package page

import "strconv"

// Title is a page's first heading, with what it says of the whole beside it.
func Title(name, beside Markup) Markup { return "\n" + Element("h1", name, " ", beside) + "\n" }

// Section is a heading within a page.
func Section(name ...Markup) Markup { return "\n" + Element("h2", name...) + "\n" }

// Verdict says yes as something good, or no as something bad.
func Verdict(ok bool, yes, no Markup) Markup {
	if ok {
		return Element(`span class="good"`, yes)
	}
	return Element(`span class="bad"`, no)
}

// Soft is what matters less than its surroundings.
func Soft(content ...Markup) Markup { return Element(`span class="soft"`, content...) }

// Note is a line of its own that matters less than the one above it; nothing when it is empty.
func Note(content Markup) Markup {
	return Choose(content != "", Element(`div class="soft"`, content), "")
}

// Problems lists those sentences that are not ""; nothing when all are.
func Problems(sentences ...string) Markup {
	var items Markup
	for _, s := range sentences {
		if s != "" {
			items += Element("li", Text(s))
		}
	}
	return Choose(items != "", Element(`ul class="problems"`, items)+"\n", "")
}

// Link leads to a page of ours.
func Link(url string, content Markup) Markup { return Element("a"+Attribute("href", url), content) }

// Facts is a table of [Fact] rows.
func Facts(rows ...Markup) Markup {
	return Element("table", Element("tbody", "\n", Concat(rows...))) + "\n"
}

// Fact is a row that gives something's name and what it is.
func Fact(name Markup, value ...Markup) Markup {
	return Row(Element("th", name), Cell("", value...))
}

// Table has a column for each heading. Without rows, none says so in their place.
func Table(headings []Markup, rows []Markup, none Markup) Markup {
	if len(rows) == 0 {
		span := Attribute("colspan", strconv.Itoa(len(headings)))
		rows = []Markup{Row(Element("td"+span+` class="soft"`, none))}
	}
	head := Element("tr", Each(headings, func(h Markup) Markup { return Element("th", h) })...)
	return Element("table", "\n", Element("thead", head), "\n", Element("tbody", "\n", Concat(rows...)), "\n")
}

// Scrolling is for a table that may be wider than the page.
func Scrolling(table Markup) Markup { return Element(`div class="scroll"`, table) + "\n" }

// Row is a row of a table.
func Row(cells ...Markup) Markup { return Element("tr", cells...) + "\n" }

// Cell is one of a row, with a class of the style sheet's; "": none.
func Cell(class Markup, content ...Markup) Markup {
	return Element("td"+Choose(class != "", ` class="`+class+`"`, ""), content...)
}

// Count is a cell with a number.
func Count(n uint64) Markup { return Cell("number", Text(strconv.FormatUint(n, 10))) }

// Size is a cell with an amount of bytes.
func Size(bytes uint64) Markup { return Cell("number", Text(ByteCount(bytes))) }

// List is one item a line, without bullets.
func List(items []string) Markup {
	return Element(`ul class="plain"`, Each(items, func(s string) Markup { return Element("li", Text(s)) })...)
}

// Listing shows lines as they are.
func Listing(lines []string) Markup {
	if len(lines) == 0 {
		return Element(`p class="soft"`, "nothing") + "\n"
	}
	return Element("pre", Each(lines, func(s string) Markup { return Text(s) + "\n" })...) + "\n"
}
