package debug

import (
	"net/http"
	"strconv"
	"time"

	"github.com/rajsinghtech/tailgate/internal/page"
)

// indexView is the page /debug/.
type indexView struct {
	Node, Version string
	Began         time.Time
	Problems      []string
	// Members and Joined count those of all groups.
	Members, Joined int
	Synced          bool
	Links           []linkView
}

type linkView struct{ URL, About string }

func (p *Pages) indexView() indexView {
	members := p.membersView()
	v := indexView{Node: p.o.Node, Version: p.o.Version, Began: p.began, Problems: p.problems(), Synced: members.Synced}
	v.Members, v.Joined = members.count()
	for _, e := range p.entries() {
		if e.inNavigation {
			v.Links = append(v.Links, linkView{"/debug/" + e.slug, e.about}, linkView{"/debug/" + e.slug + ".json", "the same as JSON"})
		}
	}
	v.Links = append(v.Links, otherPages...)
	return v
}

// otherPages are those that others make.
var otherPages = []linkView{
	{"/healthz", "whether the process is alive"},
	{"/readyz", "whether pods that start now get their tailnet, and if not, why"},
	{"/metrics", "metrics, for Prometheus"},
	{"/debug/vars", "the process's variables (expvar)"},
	{"/debug/pprof/", "profiles (pprof)"},
	{"/debug/pprof/goroutine?debug=1", "goroutines, those that do the same as one"},
	{"/debug/pprof/goroutine?debug=2", "goroutines, each by itself"},
}

func (p *Pages) serveIndex(w http.ResponseWriter, _ *http.Request) {
	p.site.WritePage(w, http.StatusOK, "all pages", "", indexPage(p.indexView(), p.o.Now()))
}

func indexPage(v indexView, now time.Time) page.Markup {
	unheard := page.Choose(v.Synced, "", " "+page.Soft("not all that there is has been heard of yet"))
	return page.Concat(
		page.Title(page.TextOr(v.Node, "This node"), page.Verdict(len(v.Problems) == 0, "ready", "not ready")),
		page.Problems(v.Problems...),
		page.Facts(
			page.Fact("Version", page.TextOr(v.Version, "unknown")),
			page.Fact("Running since", page.Text(page.Moment(now, v.Began, "unknown"))),
			page.Fact("Members", number(v.Members), ", ", number(v.Joined), " joined", unheard),
		),
		page.Section("Pages"),
		page.Facts(page.Each(v.Links, func(l linkView) page.Markup {
			return page.Fact(page.Link(l.URL, page.Text(l.URL)), page.Text(l.About))
		})...),
	)
}

// number is a number within a text.
func number(n int) page.Markup { return page.Text(strconv.Itoa(n)) }
