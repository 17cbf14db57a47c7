package debug

import (
	"expvar"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rajsinghtech/tailgate/internal/page"
)

// Registry is where metrics are registered and read. A *prometheus.Registry is one, and so is controller-runtime's.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Options say whose pages they are. All without a default are needed.
type Options struct {
	Source Source
	// Node is the node's name, Version the build's.
	Node, Version string
	// Registry has all that is on /metrics; [New] adds to it what is asked of Source.
	Registry Registry
	// Now is the clock; nil: [time.Now].
	Now func() time.Time
}

// Pages are one agent's pages. Make them with [New].
type Pages struct {
	o               Options
	site            page.Site
	began           time.Time
	health, metrics http.HandlerFunc
}

// New returns the pages. Nothing is asked of the source before a page is. It panics when the registry has metrics
// of the same names already.
func New(o Options) *Pages {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Pages{o: o, began: o.Now()}
	p.site = page.Site{Program: "tailgate-agent", Version: o.Version, Now: o.Now}
	for _, e := range p.entries() {
		if e.inNavigation {
			p.site.Pages = append(p.site.Pages, e.slug)
		}
	}
	p.health = p.site.Health(p.askParts, "the agent's parts do not answer one another; it must be restarted")
	o.Registry.MustRegister(collector{p})
	p.metrics = promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // one that cannot be read takes none but itself away
		Registry:      o.Registry,               // counts those
	}).ServeHTTP
	return p
}

// Public returns the pages for the pod network: /healthz, /readyz and /metrics.
func (p *Pages) Public() http.Handler {
	mux := http.NewServeMux()
	p.addPublic(mux)
	return mux
}

// Debug returns all pages, for a loopback listener. Whatever is below /debug/ refuses, with 403, who comes from elsewhere or
// through a proxy.
func (p *Pages) Debug() http.Handler {
	below := http.NewServeMux()
	below.HandleFunc("/debug/{$}", p.serveIndex)
	for _, e := range p.entries() {
		below.HandleFunc("/debug/"+e.slug, e.person)
		below.HandleFunc("/debug/"+e.slug+".json", e.program)
	}
	below.Handle("/debug/vars", expvar.Handler())
	below.HandleFunc("/debug/pprof/", pprof.Index)
	below.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	below.HandleFunc("/debug/pprof/profile", pprof.Profile)
	below.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	below.HandleFunc("/debug/pprof/trace", pprof.Trace)

	mux := http.NewServeMux()
	p.addPublic(mux)
	mux.Handle("/debug/", onNode(page.ReadOnly(below.ServeHTTP)))
	return mux
}

func (p *Pages) addPublic(mux *http.ServeMux) {
	mux.Handle("/healthz", page.ReadOnly(p.health))
	mux.Handle("/readyz", page.ReadOnly(p.serveReady))
	mux.Handle("/metrics", page.ReadOnly(p.metrics))
}

// onNode lets those pass who come from loopback, and tells their browsers to load nothing and to show the page in no other.
func onNode(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().IsLoopback() || r.Header.Get("X-Forwarded-For") != "" {
			http.Error(w, "these pages are for whoever is on the node", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'")
		h.ServeHTTP(w, r)
	})
}

// entry is a page below /debug/.
type entry struct {
	slug, about     string
	person, program http.HandlerFunc
	// inNavigation: each page links it. Otherwise it says nothing without a query.
	inNavigation bool
}

func (p *Pages) entries() []entry {
	return []entry{
		newEntry(p, "members", "members of groups, how far each has come and why not further", p.membersView, membersPage),
		newEntry(p, "pods", "all pods of the node, and why each is a member or not", p.podsView, podsPage),
		newEntry(p, "groups", "groups and their gateways on this node", p.groupsView, groupsPage),
		newEntry(p, "cni", "the installation of the CNI plugin, and where pods' network namespaces are", p.cniView, cniPage),
		newEntry(p, "cluster", "what belongs to the cluster and is never steered", p.clusterView, clusterPage),
		{slug: "member", person: p.serveMember, program: p.serveMemberJSON},
	}
}

// newEntry returns a page that shows what view returns.
func newEntry[V any](p *Pages, slug, about string, view func() V, show func(V, time.Time) page.Markup) entry {
	program := func(w http.ResponseWriter, _ *http.Request) { p.site.WriteJSON(w, http.StatusOK, view()) }
	person := func(w http.ResponseWriter, r *http.Request) {
		if wantsJSON(r) {
			program(w, r)
			return
		}
		p.site.WritePage(w, http.StatusOK, slug, "/debug/"+slug+".json", show(view(), p.o.Now()))
	}
	return entry{slug: slug, about: about, person: person, program: program, inNavigation: true}
}

func wantsJSON(r *http.Request) bool { return r.URL.Query().Get("format") == "json" }
