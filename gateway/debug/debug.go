package debug

import (
	"net/http"
	"sync/atomic"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsweb"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/page"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// Node is what the pages ask of the Tailscale node. *node.Node is one; its methods say what they return.
type Node interface {
	Snapshot() snapshot.Snapshot
	ConfigStatus() config.Status
	Config() *config.Config
	NetMap() *netmap.NetworkMap
	Status() *ipnstate.Status
	ServeMetrics(http.ResponseWriter, *http.Request)
	ServeMagicsock(http.ResponseWriter, *http.Request)
}

// Dataplane is what the pages ask of the kernel side. *dataplane.Dataplane is one.
type Dataplane interface {
	Status() dataplane.Status
	Inspect() (dataplane.Inspection, error)
	Counters() (dataplane.Counters, error)
}

// Options say whose pages they are. All without a default are needed.
type Options struct {
	Node      Node
	Dataplane Dataplane
	// Version is the build's.
	Version string
	// Now is the clock; nil: [time.Now].
	Now func() time.Time
}

// Pages are one gateway's pages. Make them with [New].
type Pages struct {
	o            Options
	site         page.Site
	health       http.HandlerFunc
	scrapeErrors [len(scrapeParts)]atomic.Uint64
}

// htmlPages are the pages made for a person, as each of them links all.
var htmlPages = []string{"netmap", "config", "kernel", "members"}

// New returns the pages. Nothing is asked of the node or the kernel before a page is.
func New(o Options) *Pages {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Pages{o: o}
	p.site = page.Site{Program: "tailgate-gateway", Version: o.Version, Pages: htmlPages, Now: o.Now, Filter: p.redact}
	p.health = p.site.Health(p.askParts, "the gateway's parts do not answer one another; it must be restarted")
	return p
}

// Public returns the pages for the pod network: /healthz, /readyz and /metrics.
func (p *Pages) Public() http.Handler {
	mux := http.NewServeMux()
	p.addPublic(mux)
	return mux
}

// Debug returns all pages, for a loopback listener. Those below /debug/ also refuse, with 403, who comes from
// neither loopback nor the tailnet, or through a proxy (tsweb.AllowDebugAccess).
func (p *Pages) Debug() http.Handler {
	mux := http.NewServeMux()
	p.addPublic(mux)
	d := tsweb.Debugger(mux)
	d.Title(p.site.Program)
	d.KV("tailgate", p.o.Version)
	for _, e := range p.entries() {
		d.Handle(e.slug, e.about, page.ReadOnly(e.serve))
		if e.json != nil {
			d.Handle(e.slug+".json", "the same as JSON", page.ReadOnly(e.json))
		}
	}
	for _, e := range publicPages {
		d.URL(e.path, e.about)
	}
	return mux
}

// entry is a page below /debug/.
type entry struct {
	slug, about string
	serve       http.HandlerFunc
	json        http.HandlerFunc // the same as JSON; nil: serve is all there is
}

func (p *Pages) entries() []entry {
	return []entry{
		p.entry("netmap", "the tailnet as this gateway sees it: peers, routes, exit nodes, DNS",
			func() page.Markup { return netmapPage(p.netmapView(), p.o.Now()) }, func() any { return p.o.Node.NetMap() }),
		p.entry("config", "the configuration in force, without secrets, and what became of the last reload",
			func() page.Markup { return configPage(p.configView(), p.o.Now()) }, func() any { return p.configView() }),
		p.entry("kernel", "the kernel's state as wanted and as it is, and the difference",
			func() page.Markup { return kernelPage(p.kernelView(), p.o.Now()) }, func() any { return p.kernelView() }),
		p.entry("members", "member links and their traffic, what was dropped and why",
			func() page.Markup { return membersPage(p.membersView()) }, func() any { return p.membersView() }),
		{slug: "snapshot", about: "what the gateway tells the agent, as JSON", serve: func(w http.ResponseWriter, _ *http.Request) {
			p.site.WriteJSON(w, http.StatusOK, p.o.Node.Snapshot())
		}},
		{slug: "magicsock", about: "the engine's sockets, endpoints and paths to peers", serve: p.o.Node.ServeMagicsock},
	}
}

// entry returns the page with that content for a person, and with what asJSON returns for a program.
func (p *Pages) entry(slug, about string, content func() page.Markup, asJSON func() any) entry {
	serveJSON := func(w http.ResponseWriter, _ *http.Request) { p.site.WriteJSON(w, http.StatusOK, asJSON()) }
	return entry{slug: slug, about: about, json: serveJSON, serve: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("format") == "json" {
			serveJSON(w, r)
			return
		}
		p.site.WritePage(w, http.StatusOK, slug, "/debug/"+slug+".json", content())
	}}
}

// publicPages are those of [Pages.Public], as the index links them.
var publicPages = []struct{ path, about string }{
	{"/healthz", "whether the process is alive"},
	{"/readyz", "whether members' packets reach the tailnet, and if not, why"},
	{"/metrics", "metrics of the gateway and of its engine, for Prometheus"},
}

func (p *Pages) addPublic(mux *http.ServeMux) {
	mux.Handle("/healthz", page.ReadOnly(p.health))
	mux.Handle("/readyz", page.ReadOnly(p.serveReady))
	mux.Handle("/metrics", page.ReadOnly(p.serveMetrics))
}
