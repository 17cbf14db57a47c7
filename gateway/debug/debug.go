package debug

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsweb"
	"tailscale.com/types/netmap"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
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
	scrapeErrors [len(scrapeParts)]atomic.Uint64

	mu    sync.Mutex
	probe chan struct{} // closed when the parts have answered; nil: nobody asks them now
}

// New returns the pages. Nothing is asked of the node or the kernel before a page is.
func New(o Options) *Pages {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Pages{o: o}
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
	d.Title("tailgate-gateway")
	d.KV("tailgate", p.o.Version)
	for _, page := range p.pages() {
		d.Handle(page.slug, page.about, readOnly(page.serve))
		if page.json != nil {
			d.Handle(page.slug+".json", "the same as JSON", readOnly(page.json))
		}
	}
	for _, page := range publicPages {
		d.URL(page.path, page.about)
	}
	return mux
}

// page is one below /debug/.
type page struct {
	slug, about string
	serve       http.HandlerFunc
	json        http.HandlerFunc // the same as JSON; nil: serve is all there is
}

func (p *Pages) pages() []page {
	return []page{
		p.page("netmap", "the tailnet as this gateway sees it: peers, routes, exit nodes, DNS",
			func() markup { return netmapPage(p.netmapView(), p.o.Now()) }, func() any { return p.o.Node.NetMap() }),
		p.page("config", "the configuration in force, without secrets, and what became of the last reload",
			func() markup { return configPage(p.configView(), p.o.Now()) }, func() any { return p.configView() }),
		p.page("kernel", "the kernel's state as wanted and as it is, and the difference",
			func() markup { return kernelPage(p.kernelView(), p.o.Now()) }, func() any { return p.kernelView() }),
		p.page("members", "member links and their traffic, what was dropped and why",
			func() markup { return membersPage(p.membersView()) }, func() any { return p.membersView() }),
		{slug: "snapshot", about: "what the gateway tells the agent, as JSON", serve: func(w http.ResponseWriter, _ *http.Request) {
			p.writeJSON(w, p.o.Node.Snapshot())
		}},
		{slug: "magicsock", about: "the engine's sockets, endpoints and paths to peers", serve: p.o.Node.ServeMagicsock},
	}
}

// page returns the page with that content for a person, and with what asJSON returns for a program.
func (p *Pages) page(slug, about string, content func() markup, asJSON func() any) page {
	serveJSON := func(w http.ResponseWriter, _ *http.Request) { p.writeJSON(w, asJSON()) }
	return page{slug: slug, about: about, json: serveJSON, serve: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("format") == "json" {
			serveJSON(w, r)
			return
		}
		p.writePage(w, slug, content())
	}}
}

// readOnly lets GET and HEAD pass.
func readOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page can only be read: use GET", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	})
}

// publicPages are those of [Pages.Public], as the index links them.
var publicPages = []struct{ path, about string }{
	{"/healthz", "whether the process is alive"},
	{"/readyz", "whether members' packets reach the tailnet, and if not, why"},
	{"/metrics", "metrics of the gateway and of its engine, for Prometheus"},
}

func (p *Pages) addPublic(mux *http.ServeMux) {
	mux.Handle("/healthz", readOnly(p.serveHealth))
	mux.Handle("/readyz", readOnly(p.serveReady))
	mux.Handle("/metrics", readOnly(p.serveMetrics))
}
