// Package pagetest helps to test pages made with package page, and pages of metrics.
package pagetest

import (
	"flag"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/page"
)

var update = flag.Bool("update", false, "write testdata again")

// Golden compares got with the file of that name in testdata.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got), written again by go test -update:\n%s", path, d)
	}
}

// Get asks h as somebody on loopback would.
func Get(t *testing.T, h http.Handler, method, url string) *httptest.ResponseRecorder {
	t.Helper()
	return From(t, h, method, url, "127.0.0.1:40000")
}

// From asks h as somebody at that address would.
func From(t *testing.T, h http.Handler, method, url, remote string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, url, nil)
	r.RemoteAddr = remote
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Body is what of an HTML page differs from page to page.
func Body(t *testing.T, document string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document, "</nav>\n")
	if !ok {
		t.Fatalf("no navigation in %s", document)
	}
	return rest
}

// CheckAlone expects the page to need nothing from elsewhere, for there may be no internet where it is read.
func CheckAlone(t *testing.T, name, document string) {
	t.Helper()
	for _, word := range []string{"<script", "<link", "<img", "@import", "url(", `href="http`} {
		if strings.Contains(document, word) {
			t.Errorf("%s holds %s", name, word)
		}
	}
	for _, word := range []string{"<!DOCTYPE html>", "prefers-color-scheme: dark", "</html>"} {
		if !strings.Contains(document, word) {
			t.Errorf("%s lacks %s", name, word)
		}
	}
}

// Fetched is a page.
type Fetched struct{ URL, Text string }

var hrefs = regexp.MustCompile(`href="([^"]+)"`)

// Everything returns the index of h, and all that it links.
func Everything(t *testing.T, h http.Handler) []Fetched {
	t.Helper()
	index := Get(t, h, "GET", "/debug/").Body.String()
	pages := []Fetched{{"/debug/", index}}
	for _, m := range hrefs.FindAllStringSubmatch(index, -1) {
		url := html.UnescapeString(m[1])
		pages = append(pages, Fetched{url, Get(t, h, "GET", url).Body.String()})
	}
	if len(pages) < 15 {
		t.Fatalf("the index links %d pages only", len(pages))
	}
	return pages
}

// Hostile would be an element, end an attribute or begin a character reference if it got out as it is.
const Hostile = `<b>"it's" & &lt;`

// CheckEscaped expects the page to show the texts that [Fill] put in, by field, but for those of the fields that it is to
// hide, and none of them as HTML.
func CheckEscaped(t *testing.T, name string, content page.Markup, put map[string]string, hidden ...string) {
	t.Helper()
	for _, raw := range []string{"<b>", `"it`, "it's", " & "} {
		if strings.Contains(string(content), raw) {
			t.Errorf("%s holds %s:\n%s", name, raw, content)
		}
	}
	shown := html.UnescapeString(string(content))
	var missing []string
	for field, s := range put {
		if !strings.Contains(shown, s) {
			missing = append(missing, field)
		}
	}
	slices.Sort(missing)
	if d := cmp.Diff(hidden, missing); d != "" {
		t.Errorf("%s: fields not shown (-want +got):\n%s", name, d)
	}
}

// Fill puts a hostile text of its own into each string that *view has room for, and returns them by field. Each
// slice and map gets one entry, and whatever can be true is.
func Fill[V any](view *V) map[string]string {
	put := map[string]string{}
	fill(reflect.ValueOf(view).Elem(), "", put)
	return put
}

func fill(v reflect.Value, field string, put map[string]string) {
	if !v.CanSet() {
		return // unexported, as time.Time's
	}
	switch v.Kind() {
	case reflect.String:
		put[field] = Hostile + field + ";"
		v.SetString(put[field])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), field, put)
	case reflect.Map:
		key := reflect.New(v.Type().Key()).Elem()
		fill(key, field, put)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, reflect.Zero(v.Type().Elem()))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), field+"."+v.Type().Field(i).Name, put)
		}
	}
}
