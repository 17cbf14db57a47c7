package page

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hostile would be an element, end an attribute or begin a character reference if it got out as it is.
const hostile = `<b>"it's" & &lt;`

func TestElement(t *testing.T) {
	for _, tt := range []struct{ name, want, got string }{
		{"empty", `<td></td>`, string(Element("td"))},
		{"attributes", `<a href="/x" class="here">x</a>`, string(Element(`a href="/x" class="here"`, "x"))},
		{"nested", `<ul><li>a</li><li>&lt;b&gt;</li></ul>`, string(Element("ul", Element("li", "a"), Element("li", Text("<b>"))))},
		{"hostile text", `<p>&lt;b&gt;&#34;it&#39;s&#34; &amp; &amp;lt;</p>`, string(Element("p", Text(hostile)))},
		{"hostile attribute", `<a href="&lt;b&gt;&#34;it&#39;s&#34; &amp; &amp;lt;">x</a>`, string(Element("a"+Attribute("href", hostile), "x"))},
		{"hostile link", `<a href="&lt;b&gt;&#34;it&#39;s&#34; &amp; &amp;lt;">x</a>`, string(Link(hostile, "x"))},
	} {
		if d := cmp.Diff(tt.want, tt.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func testSite() *Site {
	return &Site{
		Program: "tailgate-x", Version: "v1.2.3", Pages: []string{"netmap", "config"},
		Now: func() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) },
	}
}

func TestNavigation(t *testing.T) {
	want := `<nav>
<a href="/debug/">all pages</a>
<a href="/debug/netmap">netmap</a>
<a href="/debug/config" class="here" aria-current="page">config</a>
</nav>`
	if d := cmp.Diff(want, string(testSite().navigation("config"))); d != "" {
		t.Errorf("navigation (-want +got):\n%s", d)
	}
}

func TestDocument(t *testing.T) {
	s := testSite()
	s.Program, s.Version, s.Pages = "p"+hostile, "v"+hostile, []string{"n" + hostile}
	document := string(s.Document("d"+hostile, "j"+hostile, ""))
	for _, raw := range []string{"<b>", `"it`, "it's", " & "} {
		if strings.Contains(document, raw) {
			t.Errorf("the frame holds %s:\n%s", raw, document)
		}
	}
	for _, name := range []string{"p", "v", "n", "d", "j"} {
		if !strings.Contains(document, string(Text(name+hostile))) {
			t.Errorf("the frame lacks the text that begins with %s:\n%s", name, document)
		}
	}
	if without := s.Document("netmap", "", ""); strings.Contains(string(without), "as JSON") {
		t.Errorf("a page that is no JSON links it:\n%s", without)
	}
}
