package debug

import (
	"bytes"
	"net/http"
	"strings"

	"tailscale.com/ipn"

	"github.com/rajsinghtech/tailgate/gateway/config"
	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// scrapeParts are the parts of the page that may fail by themselves.
var scrapeParts = [...]string{partCounters: "counters", partEngine: "engine"}

const (
	partCounters = iota // what the kernel counts
	partEngine          // the engine's own metrics
)

// serveMetrics writes our metrics and then the engine's. What cannot be read is left out and counted.
func (p *Pages) serveMetrics(w http.ResponseWriter, r *http.Request) {
	engine := &capture{}
	p.o.Node.ServeMetrics(engine, r)
	if engine.code >= http.StatusBadRequest {
		p.scrapeErrors[partEngine].Add(1)
		engine.body.Reset()
	}
	var b bytes.Buffer
	_ = writeFamilies(&b, p.families()) // a Buffer does not fail
	_, _ = engine.body.WriteTo(&b)
	p.site.Write(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}

// capture keeps what a handler answers.
type capture struct {
	header http.Header
	code   int // 0: as good as 200
	body   bytes.Buffer
}

func (c *capture) Header() http.Header {
	if c.header == nil {
		c.header = make(http.Header)
	}
	return c.header
}

func (c *capture) WriteHeader(code int) { c.code = code }

func (c *capture) Write(b []byte) (int, error) { return c.body.Write(b) }

// families returns our metrics.
func (p *Pages) families() []family {
	ready, problems := p.readiness()
	fs := []family{
		{"build_info", gauge, "Always 1; the label says which build this is.", []sample{{[]label{{"version", p.o.Version}}, 1}}},
		{"ready", gauge, "1 when members' packets reach the tailnet: Tailscale runs and the kernel is as wanted.", one(oneIf(ready))},
		{"problems", gauge, "Problems that /readyz and /debug/netmap name now.", one(len(problems))},
	}
	fs = append(fs, snapshotFamilies(p.o.Node.Snapshot())...)
	fs = append(fs, configFamilies(p.o.Node.ConfigStatus())...)
	fs = append(fs, kernelFamilies(p.o.Dataplane.Status())...)
	counts, err := p.o.Dataplane.Counters()
	if err != nil {
		p.scrapeErrors[partCounters].Add(1)
	}
	fs = append(fs, countFamilies(counts, err == nil)...)
	failed := family{name: "scrape_errors_total", kind: counter, help: "Times that a part of this page could not be read; its metrics are then left out."}
	for i, part := range scrapeParts {
		failed.samples = append(failed.samples, sample{[]label{{"part", part}}, float64(p.scrapeErrors[i].Load())})
	}
	return append(fs, failed)
}

func snapshotFamilies(s snapshot.Snapshot) []family {
	state := family{name: "backend_state", kind: gauge, help: "1 for the state that Tailscale's backend is in, 0 for the others."}
	known := false
	for i := ipn.NoState; i <= ipn.Running; i++ {
		is := i.String() == s.BackendState
		known = known || is
		state.samples = append(state.samples, sample{[]label{{"state", i.String()}}, oneIf(is)})
	}
	if !known && s.BackendState != "" {
		state.samples = append(state.samples, sample{[]label{{"state", s.BackendState}}, 1})
	}
	e := s.ExitNode
	info := family{name: "exit_node_info", kind: gauge, help: "Always 1, and there when an exit node is configured: how it was written, and the node that it stands for now."}
	if e.Wanted != "" {
		info.samples = []sample{{[]label{{"wanted", e.Wanted}, {"id", e.ID}, {"name", e.Name}}, 1}}
	}
	return []family{
		state, info,
		{"exit_node_in_use", gauge, "1 when members' internet traffic goes to an exit node; 0 when none is configured or the configured one cannot be used.", one(oneIf(e.ID != ""))},
		{"exit_node_online", gauge, "1 when the exit node in use is online, as the control plane says.", one(oneIf(e.Online))},
		{"auth_key_refused", gauge, "1 when the tailnet did not take the auth key at the last try.", one(oneIf(s.AuthKeyRefused))},
	}
}

func configFamilies(s config.Status) []family {
	failed := family{name: "config_errors_total", kind: counter, help: "Configurations that were not put into force, and auth keys that could not be read."}
	for reason, n := range s.Errors {
		failed.samples = append(failed.samples, sample{[]label{{"reason", string(reason)}}, float64(n)})
	}
	fs := []family{
		failed,
		{"config_generation", gauge, "Configurations put into force since the process began.", one(s.Generation)},
		{"config_in_force", gauge, "1 when the configuration file as it is now is in force; 0 when it is faulty or there was none yet.", one(oneIf(s.Generation > 0 && s.Err == nil))},
	}
	if !s.LastReload.IsZero() {
		at := float64(s.LastReload.UnixMilli()) / 1000
		fs = append(fs, family{"config_last_reload_timestamp_seconds", gauge, "When new content of the configuration file was last found, good or not, in Unix time.", one(at)})
	}
	if s.Generation > 0 {
		fs = append(fs, family{"config_reload_seconds", gauge, "Time from the change of the file to its being in force, of the last one put into force.", one(s.Latency.Seconds())})
	}
	return fs
}

func kernelFamilies(s dataplane.Status) []family {
	changes := family{name: "kernel_changes_total", kind: counter, help: "Changes made to the kernel's state, by operation."}
	for op, n := range s.Applied {
		changes.samples = append(changes.samples, sample{[]label{{"operation", op}}, float64(n)})
	}
	return []family{
		changes,
		{"kernel_in_place", gauge, "1 when addresses, routes, rules and nftables are as wanted.", one(oneIf(s.InPlace()))},
		{"kernel_repairs_total", counter, "Times that the kernel's state was found changed by somebody else, and mended.", one(s.Repairs)},
	}
}

// countFamilies returns what the kernel counts. Of counts that are not whole, it takes those that
// are there: nothing else tells an absent one from zero.
func countFamilies(c dataplane.Counters, whole bool) []family {
	var fs []family
	if whole || len(c.Members) > 0 {
		fs = append(fs, memberFamilies(c.Members)...)
	}
	packets, octets := map[string]uint64{}, map[string]uint64{}
	for _, d := range c.Dropped {
		packets[d.Comment] += d.Packets
		octets[d.Comment] += d.Bytes
	}
	fs = append(fs,
		byReason("dropped_packets_total", "Packets that the gateway's filter dropped. Starts again at 0 when the filter is replaced.", packets),
		byReason("dropped_bytes_total", "Bytes in dropped_packets_total.", octets))
	if c.ConntrackMax > 0 {
		fs = append(fs,
			family{"conntrack_entries", gauge, "Connections tracked in the gateway's network namespace.", one(c.ConntrackUsed)},
			family{"conntrack_entries_max", gauge, "Connections that may be tracked; beyond it new ones fail.", one(c.ConntrackMax)})
	}
	return fs
}

func byReason(name, help string, counts map[string]uint64) family {
	f := family{name: name, kind: counter, help: help}
	for reason, n := range counts {
		f.samples = append(f.samples, sample{[]label{{"reason", reason}}, float64(n)})
	}
	return f
}

// memberFamilies turns the gateway's ends of the links into what the members see: what the gateway receives,
// the member transmitted.
func memberFamilies(links []kernel.LinkStats) []family {
	perLink := func(name, help string, value func(kernel.LinkStats) uint64) family {
		f := family{name: name, kind: counter, help: help + ", from the member's point of view. One series a member link."}
		for _, l := range links {
			f.samples = append(f.samples, sample{[]label{{"link", l.Name}, {"member", memberOf(l)}}, float64(value(l))})
		}
		return f
	}
	return []family{
		{"members", gauge, "Member links in the gateway's network namespace.", one(len(links))},
		perLink("member_receive_bytes_total", "Bytes received by the member from the gateway", func(l kernel.LinkStats) uint64 { return l.TxBytes }),
		perLink("member_receive_packets_total", "Packets received by the member from the gateway", func(l kernel.LinkStats) uint64 { return l.TxPackets }),
		perLink("member_transmit_bytes_total", "Bytes sent by the member to the gateway", func(l kernel.LinkStats) uint64 { return l.RxBytes }),
		perLink("member_transmit_packets_total", "Packets sent by the member to the gateway", func(l kernel.LinkStats) uint64 { return l.RxPackets }),
	}
}

// memberOf returns whose link it is, as its alias says.
func memberOf(l kernel.LinkStats) string { return strings.TrimPrefix(l.Alias, ident.AliasPrefix) }
