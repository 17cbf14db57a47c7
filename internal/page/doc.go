// Package page makes the pages below /debug/ that our binaries serve to a person on the node, and what goes with
// them: the same as JSON, answers in a line for probes.
//
// It promises that a string from elsewhere is on a page as text and never as HTML, that a page needs nothing but
// itself to be read, and that it is never kept in a cache.
//
// Pages are functions that return [Markup], and not html/template: its engine finds methods by name through reflect
// (MethodByName), for which the linker has to keep every exported method of every type in a binary. Of the
// gateway that is 6 MB of 27. Nor are they maragu.dev/gomponents, which imports the engine's package for its escaping: the
// linker leaves the engine out today, but nothing short of reading the binary would tell if it no longer did.
package page
