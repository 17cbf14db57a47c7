package debug

import (
	"html"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostile would be an element, end an attribute or begin a character reference if it got out as it is.
const hostile = `<b>"it's" & &lt;`

func TestElement(t *testing.T) {
	for _, tt := range []struct{ name, want, got string }{
		{"empty", `<td></td>`, string(element("td"))},
		{"attributes", `<a href="/x" class="here">x</a>`, string(element(`a href="/x" class="here"`, "x"))},
		{"nested", `<ul><li>a</li><li>&lt;b&gt;</li></ul>`, string(element("ul", element("li", "a"), element("li", text("<b>"))))},
		{"hostile text", `<p>&lt;b&gt;&#34;it&#39;s&#34; &amp; &amp;lt;</p>`, string(element("p", text(hostile)))},
		{"hostile attribute", `<a href="&lt;b&gt;&#34;it&#39;s&#34; &amp; &amp;lt;">x</a>`, string(element("a"+attribute("href", hostile), "x"))},
	} {
		if d := cmp.Diff(tt.want, tt.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// Whatever the tailnet, the kernel or a file says is shown, and is never HTML.
func TestEveryTextIsEscaped(t *testing.T) {
	var n netmapView
	var c configView
	var k kernelView
	var m membersView
	inNetmap, inConfig, inKernel, inMembers := fill(&n), fill(&c), fill(&k), fill(&m)
	k.InspectError = "" // or most of the page would be missing
	for _, tt := range []struct {
		name   string
		page   markup
		put    map[string]string
		hidden []string // fields that the page leaves out
	}{
		{"netmap", netmapPage(n, fixedNow), inNetmap, []string{".Exit.ID"}}, // it has a name
		{"config", configPage(c, fixedNow), inConfig, nil},
		{"kernel", kernelPage(k, fixedNow), inKernel, []string{".InspectError"}},
		{"members", membersPage(m), inMembers, []string{".Tunnel.Addrs", ".Tunnel.Member"}},
		{"frame", document("netmap", hostile, fixedNow, ""), map[string]string{"version": hostile}, nil},
	} {
		page := string(tt.page)
		for _, raw := range []string{"<b>", `"it`, "it's", " & "} {
			if strings.Contains(page, raw) {
				t.Errorf("%s holds %s:\n%s", tt.name, raw, page)
			}
		}
		shown := html.UnescapeString(page)
		var hidden []string
		for field, s := range tt.put {
			if !strings.Contains(shown, s) {
				hidden = append(hidden, field)
			}
		}
		slices.Sort(hidden)
		if d := cmp.Diff(tt.hidden, hidden); d != "" {
			t.Errorf("%s: fields not shown (-want +got):\n%s", tt.name, d)
		}
	}
}

// fill puts a hostile text of its own into each string that *view has room for, and returns them by field. Each
// slice and map gets one entry, and whatever can be true is.
func fill[V any](view *V) map[string]string {
	put := map[string]string{}
	fillValue(reflect.ValueOf(view).Elem(), "", put)
	return put
}

func fillValue(v reflect.Value, field string, put map[string]string) {
	if !v.CanSet() {
		return // unexported, as time.Time's
	}
	switch v.Kind() {
	case reflect.String:
		put[field] = hostile + field + ";"
		v.SetString(put[field])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillValue(v.Index(0), field, put)
	case reflect.Map:
		key := reflect.New(v.Type().Key()).Elem()
		fillValue(key, field, put)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, reflect.Zero(v.Type().Elem()))
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(v.Field(i), field+"."+v.Type().Field(i).Name, put)
		}
	}
}

func TestNavigation(t *testing.T) {
	want := `<nav>
<a href="/debug/">all pages</a>
<a href="/debug/netmap">netmap</a>
<a href="/debug/config" class="here" aria-current="page">config</a>
<a href="/debug/kernel">kernel</a>
<a href="/debug/members">members</a>
</nav>`
	if d := cmp.Diff(want, string(navigation("config"))); d != "" {
		t.Errorf("navigation (-want +got):\n%s", d)
	}
}
