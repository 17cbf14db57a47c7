package debug

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func get(t *testing.T, h http.Handler, url string) string {
	t.Helper()
	return pagetest.Get(t, h, "GET", url).Body.String()
}

// memberPages are those of busySource's members, by the names of their golden files.
var memberPages = map[string]string{
	"joined": uidJoined, "drifted": uidDrifted, "waiting": uidWaiting, "cut": uidCut,
}

func TestPagesForAPerson(t *testing.T) {
	for name, source := range map[string]*fakeSource{"empty": emptySource(), "busy": busySource()} {
		p := newPages(source)
		h := p.Debug()
		check := func(url, file string) {
			w := pagetest.Get(t, h, "GET", url)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("%s %s: %d %s", name, url, w.Code, w.Header().Get("Content-Type"))
			}
			pagetest.Golden(t, file, pagetest.Body(t, w.Body.String()))
			pagetest.CheckAlone(t, url, w.Body.String())
		}
		check("/debug/", name+"-index.html")
		for _, slug := range p.site.Pages {
			check("/debug/"+slug, name+"-"+slug+".html")
		}
		if name == "busy" {
			for member, uid := range memberPages {
				check("/debug/member?id="+uid, "member-"+member+".html")
			}
		}
	}
}

func TestJSON(t *testing.T) {
	urls := map[string]string{}
	p := newPages(busySource())
	for _, slug := range p.site.Pages {
		urls["busy-"+slug] = "/debug/" + slug + ".json?"
	}
	for member, uid := range memberPages {
		urls["member-"+member] = "/debug/member.json?id=" + uid
	}
	for file, url := range urls {
		w := pagetest.Get(t, p.Debug(), "GET", url)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", url, w.Code, w.Header().Get("Content-Type"))
		}
		pagetest.Golden(t, file+".json", w.Body.String())
		other := get(t, p.Debug(), strings.Replace(url, ".json?", "?format=json&", 1))
		if d := cmp.Diff(w.Body.String(), other); d != "" {
			t.Errorf("%s and ?format=json differ:\n%s", url, d)
		}
	}
}

// Nothing is a list without entries, for whoever reads it with jq(1).
func TestJSONOfNothing(t *testing.T) {
	p := newPages(emptySource())
	for slug, want := range map[string]string{
		"members": `"members": []`, "pods": `"pods": []`, "groups": `"groups": []`, "cluster": `"cidrs": []`, "cni": `"attachments": []`,
	} {
		if text := get(t, p.Debug(), "/debug/"+slug+".json"); !strings.Contains(text, want) {
			t.Errorf("%s lacks %s:\n%s", slug, want, text)
		}
	}
}

// Whether something is to be changed is in the first line, and is true.
func TestDifferenceIsSeen(t *testing.T) {
	h := newPages(busySource()).Debug()
	for _, tt := range []struct {
		uid, says, not string
		view           inspectionView
	}{
		{uidJoined, "no difference", "not as wanted", inspectionView{InPlace: true, HasLink: true}},
		{uidWaiting, "no difference", "not as wanted", inspectionView{InPlace: true}},
		{uidDrifted, "not as wanted", "no difference", inspectionView{HasLink: true}},
		// Its plans are empty, and yet it is not as it should be.
		{uidCut, "not as wanted", "no difference", inspectionView{LinkMissing: true}},
	} {
		text := get(t, h, "/debug/member?id="+tt.uid)
		first, _, _ := strings.Cut(pagetest.Body(t, text), "</h1>")
		if !strings.Contains(first, tt.says) || strings.Contains(first, tt.not) {
			t.Errorf("%s: the heading %q should say %q", tt.uid, first, tt.says)
		}
		var v inspectionView
		if err := json.Unmarshal([]byte(get(t, h, "/debug/member.json?id="+tt.uid)), &v); err != nil {
			t.Fatal(err)
		}
		got := inspectionView{InPlace: v.InPlace, HasLink: v.HasLink, LinkMissing: v.LinkMissing}
		if d := cmp.Diff(tt.view, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.uid, d)
		}
		changes := len(v.State.Difference) + len(v.Gateway.Difference) + len(v.Table.Difference)
		if (changes > 0) != (tt.uid == uidDrifted) {
			t.Errorf("%s: %d changes", tt.uid, changes)
		}
	}
}

// A link is not missed where there is nothing to link to.
func TestHasGateway(t *testing.T) {
	for _, tt := range []struct {
		group stitch.GroupReport
		want  bool
	}{
		{stitch.GroupReport{Name: "g", Known: true, Gateway: &stitch.GatewayReport{Open: true}}, true},
		{stitch.GroupReport{Name: "g", Known: true, Gateway: &stitch.GatewayReport{}}, false},
		{stitch.GroupReport{Name: "g", Known: true}, false},
		{stitch.GroupReport{Name: "g", Gateway: &stitch.GatewayReport{Open: true}}, false}, // the member is left as it is
		{stitch.GroupReport{Name: "other", Known: true, Gateway: &stitch.GatewayReport{Open: true}}, false},
	} {
		if got := hasGateway(stitch.Report{Groups: []stitch.GroupReport{tt.group}}, "g"); got != tt.want {
			t.Errorf("%+v: %v", tt.group, got)
		}
	}
}

// What a gateway said before it was lost does not count.
func TestGatewayReady(t *testing.T) {
	ready := &snapshot.Snapshot{Ready: true}
	for _, tt := range []struct {
		view GatewayView
		want bool
	}{
		{GatewayView{}, false},
		{GatewayView{Snapshot: &snapshot.Snapshot{}}, false},
		{GatewayView{Snapshot: ready}, true},
		{GatewayView{Snapshot: ready, Err: errors.New("connection refused")}, false},
	} {
		if got := tt.view.ready(); got != tt.want {
			t.Errorf("%+v: %v", tt.view, got)
		}
	}
}

// A table may differ in what its text does not show.
func TestHiddenDifference(t *testing.T) {
	s := busySource()
	in := s.inspections[uidJoined]
	in.TableEqual = false
	s.inspections[uidJoined] = in
	text := get(t, newPages(s).Debug(), "/debug/member?id="+uidJoined)
	if strings.Contains(text, "no difference") || !strings.Contains(text, "what the text does not show") {
		t.Errorf("a table that would be replaced is not told of:\n%s", text)
	}
}

func TestMemberThatCannotBeShown(t *testing.T) {
	s := busySource()
	h := newPages(s).Debug()
	check := func(query string, code int, says string) {
		t.Helper()
		for _, path := range []string{"/debug/member", "/debug/member.json"} {
			w := pagetest.Get(t, h, "GET", path+query)
			if w.Code != code || !strings.Contains(w.Body.String(), says) || strings.Contains(w.Body.String(), "no difference") {
				t.Errorf("%s%s: %d, want %d and %q:\n%s", path, query, w.Code, code, says, w.Body)
			}
		}
	}
	check("", http.StatusBadRequest, "which member?")
	check("?id=nobody", http.StatusNotFound, "the member is not known; /debug/pods says")
	s.inspectErr = errors.New("inspect: the network namespace has gone")
	check("?id="+uidJoined, http.StatusOK, "the network namespace has gone")
	// What the engine knows is there all the same.
	check("?id="+uidJoined, http.StatusOK, "shop/api-0")
}

func TestEveryMemberIsLinked(t *testing.T) {
	s := busySource()
	h := newPages(s).Debug()
	text := get(t, h, "/debug/members")
	for _, m := range s.report.Members {
		if link := fmt.Sprintf(`<a href="/debug/member?id=%s">%s</a>`, m.ID, m.Name); !strings.Contains(text, link) {
			t.Errorf("no %s", link)
		}
	}
	text = get(t, h, "/debug/pods")
	for uid, member := range map[string]bool{uidJoined: true, uidOutside: false} {
		if linked := strings.Contains(text, "/debug/member?id="+uid); linked != member {
			t.Errorf("%s is linked from the pods: %v", uid, linked)
		}
	}
}

func TestIndexLinksEverything(t *testing.T) {
	h := newPages(busySource()).Debug()
	index := get(t, h, "/debug/")
	want := []string{
		"/debug/members", "/debug/members.json", "/debug/pods", "/debug/pods.json", "/debug/groups", "/debug/groups.json",
		"/debug/cni", "/debug/cni.json", "/debug/cluster", "/debug/cluster.json", "/healthz", "/readyz", "/metrics",
		"/debug/vars", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2",
	}
	for _, url := range want {
		link := `<th><a href="` + url + `">` + url + `</a></th><td>`
		if !strings.Contains(index, link) {
			t.Errorf("the index has no described link to %s", url)
		}
		if w := pagetest.Get(t, h, "GET", url); w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s: %d", url, w.Code)
		}
	}
	for _, f := range pagetest.Everything(t, h) {
		if !slices.Contains(append(want, "/debug/"), f.URL) {
			t.Errorf("the index links %s, too", f.URL)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	p := newPages(busySource())
	public, debug := p.Public(), p.Debug()
	for _, tt := range []struct {
		h           http.Handler
		method, url string
		want        int
	}{
		{public, "GET", "/healthz", 200},
		{public, "HEAD", "/readyz", 200},
		{public, "GET", "/metrics", 200},
		{public, "POST", "/metrics", 405},
		{public, "DELETE", "/healthz", 405},
		{public, "GET", "/", 404},
		{public, "GET", "/debug/", 404},
		{public, "GET", "/debug/members", 404},
		{public, "GET", "/debug/pprof/", 404},
		{public, "GET", "/debug/vars", 404},
		{debug, "HEAD", "/debug/members", 200},
		{debug, "GET", "/debug/pprof/cmdline", 200},
		{debug, "GET", "/debug/pprof/symbol", 200},
		{debug, "GET", "/metrics", 200},
		{debug, "POST", "/debug/", 405},
		{debug, "POST", "/debug/members", 405},
		{debug, "PUT", "/debug/cni.json", 405},
		{debug, "POST", "/debug/pprof/symbol", 405},
		{debug, "POST", "/debug/vars", 405},
		{debug, "DELETE", "/debug/member?id=" + uidJoined, 405},
		{debug, "POST", "/readyz", 405},
		{debug, "GET", "/", 404},
		{debug, "GET", "/debug/nonsense", 404},
		{debug, "GET", "/debug/members/x", 404},
	} {
		w := pagetest.Get(t, tt.h, tt.method, tt.url)
		allow := ""
		if tt.want == http.StatusMethodNotAllowed {
			allow = "GET, HEAD"
		}
		if w.Code != tt.want || w.Header().Get("Allow") != allow {
			t.Errorf("%s %s: %d, Allow %q, want %d, %q", tt.method, tt.url, w.Code, w.Header().Get("Allow"), tt.want, allow)
		}
	}
}

func TestDebugIsForTheNode(t *testing.T) {
	h := newPages(busySource()).Debug()
	// What there is not is refused, too: a stranger learns nothing.
	below := []string{"/debug/nonsense", "/debug/member?id=" + uidJoined, "/debug/member.json", "/debug/pprof/cmdline", "/debug/pprof/profile"}
	for _, f := range pagetest.Everything(t, h) {
		if strings.HasPrefix(f.URL, "/debug/") {
			below = append(below, f.URL)
		}
	}
	for _, url := range below {
		for _, from := range []string{"10.1.2.3:40000", "[fd00::1]:40000", "[::ffff:10.1.2.3]:40000", "100.64.0.9:40000", "", "nonsense", "@"} {
			for _, method := range []string{"GET", "POST"} {
				if w := pagetest.From(t, h, method, url, from); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "shop") {
					t.Errorf("%s %s from %q: %d %s", method, url, from, w.Code, w.Body)
				}
			}
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", url, nil)
		r.RemoteAddr = "127.0.0.1:40000"
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("%s through a proxy: %d", url, w.Code)
		}
	}
	for _, from := range []string{"127.0.0.1:40000", "127.8.9.10:40000", "[::1]:40000", "[::ffff:127.0.0.1]:40000"} {
		if w := pagetest.From(t, h, "GET", "/debug/members", from); w.Code != http.StatusOK {
			t.Errorf("from %q: %d", from, w.Code)
		}
	}
	if w := pagetest.From(t, h, "GET", "/healthz", "10.1.2.3:40000"); w.Code != http.StatusOK {
		t.Errorf("a probe from elsewhere: %d", w.Code)
	}
}

// Whatever the cluster, the kernel or a gateway says is shown, and is never HTML.
func TestEveryTextIsEscaped(t *testing.T) {
	var index indexView
	var members membersView
	var member inspectionView
	var pods podsView
	var groups groupsView
	var cni cniView
	var cluster clusterView
	inIndex, inMembers, inMember := pagetest.Fill(&index), pagetest.Fill(&members), pagetest.Fill(&member)
	inPods, inGroups, inCNI, inCluster := pagetest.Fill(&pods), pagetest.Fill(&groups), pagetest.Fill(&cni), pagetest.Fill(&cluster)
	member.Error = ""        // or most of the page would be missing
	cni.Install.Ready = true // its message is in the table then
	check := pagetest.CheckEscaped
	check(t, "index", indexPage(index, fixedNow), inIndex)
	check(t, "members", membersPage(members, fixedNow), inMembers)
	check(t, "member", inspectionPage(member, fixedNow), inMember, ".Error")
	check(t, "pods", podsPage(pods, fixedNow), inPods, ".Pods.ContainerID", ".Pods.Others") // cut short; within Why
	check(t, "groups", groupsPage(groups, fixedNow), inGroups)
	check(t, "cni", cniPage(cni, fixedNow), inCNI, ".Attachments.ContainerID") // cut short
	check(t, "cluster", clusterPage(cluster, fixedNow), inCluster)
}

// The names that come by way of the source, a query's included.
func TestHostileNames(t *testing.T) {
	s := busySource()
	s.report.Members[0].Name, s.report.Members[0].ID = pagetest.Hostile+"name", pagetest.Hostile+"id&x=y"
	s.report.Groups[1].Name = pagetest.Hostile + "group"
	s.pods[0].Name, s.pods[0].UID = pagetest.Hostile+"pod", pagetest.Hostile
	s.gateways[1].Err = errors.New(pagetest.Hostile + "error")
	s.ready = errors.New(pagetest.Hostile + "ready")
	h := newPages(s).Debug()
	for _, url := range []string{
		"/debug/", "/debug/members", "/debug/pods", "/debug/groups", "/debug/cni", "/debug/cluster",
		"/debug/member?" + idQuery(s.report.Members[0].ID), "/debug/member?" + idQuery(pagetest.Hostile+"unknown"),
	} {
		text := pagetest.Body(t, get(t, h, url))
		if strings.Contains(text, "<b>") || strings.Contains(text, `"it`) {
			t.Errorf("%s holds what is not escaped:\n%s", url, text)
		}
	}
	link := `<a href="/debug/member?id=%3Cb%3E%22it%27s%22+%26+%26lt%3Bid%26x%3Dy">`
	if text := get(t, h, "/debug/members"); !strings.Contains(text, link) {
		t.Errorf("no %s in:\n%s", link, text)
	}
}

// Why is said for each of membership's reasons.
func TestWhy(t *testing.T) {
	for _, p := range busyPods() {
		if got := why(p); got == "" || p.Reason != "SomethingNew" && got == p.Reason {
			t.Errorf("%s: %q", p.Name, got)
		}
	}
}
