package debug

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func TestPagesForAPerson(t *testing.T) {
	sick := &fakePlane{
		inspectErr: errors.New("look at the kernel: interrupted"),
		countErr:   errors.New("look at nftables: permission denied"),
	}
	for _, tt := range []struct {
		name string
		node *fakeNode
		d    *fakePlane
	}{
		{"empty", emptyNode(), &fakePlane{}},
		{"busy", busyNode(), busyPlane()},
		{"sick", emptyNode(), sick},
	} {
		h := newPages(tt.node, tt.d).Debug()
		for _, page := range htmlPages {
			w := pagetest.Get(t, h, "GET", "/debug/"+page)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("%s %s: %d %s", tt.name, page, w.Code, w.Header().Get("Content-Type"))
			}
			pagetest.Golden(t, tt.name+"-"+page+".html", pagetest.Body(t, w.Body.String()))
		}
	}
}

func TestPagesStandAlone(t *testing.T) {
	h := newPages(busyNode(), busyPlane()).Debug()
	for _, page := range htmlPages {
		pagetest.CheckAlone(t, page, pagetest.Get(t, h, "GET", "/debug/"+page).Body.String())
	}
}

func TestHTMLIsEscaped(t *testing.T) {
	n := busyNode()
	n.snapshot.Problems = []string{"<script>alert(1)</script>"}
	text := pagetest.Get(t, newPages(n, busyPlane()).Debug(), "GET", "/debug/netmap").Body.String()
	if strings.Contains(text, "<script>") || !strings.Contains(text, "&lt;script&gt;") {
		t.Errorf("not escaped: %s", text)
	}
}

func TestJSON(t *testing.T) {
	h := newPages(busyNode(), busyPlane()).Debug()
	for _, page := range htmlPages {
		w := pagetest.Get(t, h, "GET", "/debug/"+page+".json")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", page, w.Code, w.Header().Get("Content-Type"))
		}
		other := pagetest.Get(t, h, "GET", "/debug/"+page+"?format=json").Body.String()
		if d := cmp.Diff(w.Body.String(), other); d != "" {
			t.Errorf("%s.json and ?format=json differ:\n%s", page, d)
		}
		if page != "netmap" {
			pagetest.Golden(t, "busy-"+page+".json", other)
		}
	}
}

func TestNetMapJSON(t *testing.T) {
	n := busyNode()
	w := pagetest.Get(t, newPages(n, busyPlane()).Debug(), "GET", "/debug/netmap.json")
	var got netmap.NetworkMap
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range got.Peers {
		names = append(names, p.Name())
	}
	want := []string{"exit-fra1.example.ts.net.", "router.example.ts.net.", "exit-ams1.example.ts.net.", ""}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("peers (-want +got):\n%s", d)
	}
	if got.NodeKey != n.netmap.NodeKey {
		t.Errorf("node key %v, want %v", got.NodeKey, n.netmap.NodeKey)
	}
	if text := pagetest.Get(t, newPages(emptyNode(), &fakePlane{}).Debug(), "GET", "/debug/netmap.json").Body.String(); text != "null\n" {
		t.Errorf("before there is a netmap: %q", text)
	}
}

func TestSnapshotPage(t *testing.T) {
	n := busyNode()
	w := pagetest.Get(t, newPages(n, busyPlane()).Debug(), "GET", "/debug/snapshot")
	var got snapshot.Snapshot
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != n.snapshot.Name || got.ExitNode != n.snapshot.ExitNode {
		t.Errorf("got %+v", got)
	}
}

func TestIndexLinksEverything(t *testing.T) {
	h := newPages(busyNode(), &fakePlane{}).Debug()
	index := pagetest.Get(t, h, "GET", "/debug/").Body.String()
	want := []string{
		"/debug/netmap", "/debug/netmap.json", "/debug/config", "/debug/config.json", "/debug/kernel", "/debug/kernel.json",
		"/debug/members", "/debug/members.json", "/debug/snapshot", "/debug/magicsock", "/healthz", "/readyz", "/metrics",
		"/debug/vars", "/debug/varz", "/debug/pprof/",
	}
	for _, url := range want {
		link := `<a href="` + url + `">` + url + `</a> (`
		if !strings.Contains(index, link) {
			t.Errorf("the index has no described link to %s", url)
		}
		if w := pagetest.Get(t, h, "GET", url); w.Code != http.StatusOK {
			t.Errorf("%s: %d", url, w.Code)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	p := newPages(busyNode(), &fakePlane{})
	for _, tt := range []struct {
		name    string
		h       http.Handler
		method  string
		url     string
		want    int
		allowed string
	}{
		{"public", p.Public(), "GET", "/healthz", 200, ""},
		{"public", p.Public(), "HEAD", "/readyz", 200, ""},
		{"public", p.Public(), "GET", "/metrics", 200, ""},
		{"public", p.Public(), "POST", "/metrics", 405, "GET, HEAD"},
		{"public", p.Public(), "DELETE", "/healthz", 405, "GET, HEAD"},
		{"public", p.Public(), "GET", "/", 404, ""},
		{"public", p.Public(), "GET", "/debug/", 404, ""},
		{"public", p.Public(), "GET", "/debug/netmap", 404, ""},
		{"public", p.Public(), "GET", "/debug/pprof/", 404, ""},
		{"public", p.Public(), "GET", "/metrics/x", 404, ""},
		{"debug", p.Debug(), "HEAD", "/debug/netmap", 200, ""},
		{"debug", p.Debug(), "POST", "/debug/netmap", 405, "GET, HEAD"},
		{"debug", p.Debug(), "PUT", "/debug/config.json", 405, "GET, HEAD"},
		{"debug", p.Debug(), "POST", "/debug/magicsock", 405, "GET, HEAD"},
		{"debug", p.Debug(), "POST", "/readyz", 405, "GET, HEAD"},
		{"debug", p.Debug(), "GET", "/", 404, ""},
		{"debug", p.Debug(), "GET", "/debug/nonsense", 404, ""},
		{"debug", p.Debug(), "GET", "/debug/netmap/x", 404, ""},
		{"debug", p.Debug(), "GET", "/debug/magicsock.json", 404, ""},
	} {
		w := pagetest.Get(t, tt.h, tt.method, tt.url)
		if w.Code != tt.want || w.Header().Get("Allow") != tt.allowed {
			t.Errorf("%s: %s %s: %d, Allow %q, want %d, %q", tt.name, tt.method, tt.url, w.Code, w.Header().Get("Allow"), tt.want, tt.allowed)
		}
	}
}

func TestDebugIsForTheNode(t *testing.T) {
	h := newPages(busyNode(), busyPlane()).Debug()
	for _, url := range []string{"/debug/", "/debug/netmap", "/debug/config.json", "/debug/pprof/"} {
		w := pagetest.From(t, h, "GET", url, "10.1.2.3:40000")
		if w.Code != http.StatusForbidden {
			t.Errorf("%s for a pod: %d", url, w.Code)
		}
	}
}
