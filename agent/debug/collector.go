package debug

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/stitch"
)

// prefix begins the name of every metric of ours.
const prefix = "tailgate_agent_"

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// What is asked of the source.
var (
	buildInfo = describe("build_info", "Always 1; the label says which build this is.", "version")
	ready     = describe("ready", "1 when a pod that starts now gets its tailnet: CNI requests are served, all watches have synced, the plugin is installed.")

	pods     = describe("pods", "Pods of this node, by whether they are members of a group.", "state")
	members  = describe("members", "Members on this node, by group and state. Without a group: pods that are not, or not any more, members of one.", "group", "state")
	notReady = describe("members_not_ready", "Members whose packets do not reach the tailnet: not joined, or joined to a gateway that is not ready.", "group")
	repairs  = describe("repairs_total", "Times that something in a network namespace was put right that somebody else had changed, by kind.", "kind")
	gateways = describe("gateways", "Gateways on this node, by group and by whether they say that they are ready.", "group", "ready")

	attachmentPods     = describe("attachment_pods", "Pods whose network namespace is known.")
	attachmentFiles    = describe("attachment_files", "Files in the container runtime's cache of attachments that are about pods.")
	attachmentLeftOver = describe("attachment_left_over", "Sandboxes in that cache whose network namespace is not there any more.")
	attachmentProblems = describe("attachment_problems", "Files and namespaces that /debug/cni names because they are not as they should be.")

	installReady   = describe("install_ready", "1 when the CNI plugin is installed as the mode wants it.")
	installInfo    = describe("install_info", "Always 1, and there after the first look; the labels say in what state the installation of the CNI plugin is, and why.", "state", "reason")
	installPatches = describe("install_patches_total", "Times that the plugin's entry was put into a network configuration.")
)

// memberStates and repairKinds are those of stitch, for each to have a series before it is first seen.
var (
	memberStates = []stitch.State{stitch.Waiting, stitch.Joined, stitch.Failed, stitch.Left}
	repairKinds  = []string{"link", "address", "neighbour", "route", "rule", "sysctl", "nftables"}
	podStates    = []membership.State{membership.Undecided, membership.Outside, membership.Member}
)

// collector asks the source when somebody looks.
type collector struct{ p *Pages }

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, ready, pods, members, notReady, repairs, gateways,
		attachmentPods, attachmentFiles, attachmentLeftOver, attachmentProblems, installReady, installInfo, installPatches,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	o := c.p.o
	out := samples(ch)
	out.gauge(buildInfo, 1, o.Version)
	out.gauge(ready, oneIf(len(c.p.problems()) == 0))
	out.pods(o.Source.Pods())
	out.report(o.Source.Report())
	out.gateways(o.Source.Gateways())
	out.attachments(o.Source)
	out.install(o.Source.Install())
}

// samples is where metrics go.
type samples chan<- prometheus.Metric

func (out samples) gauge(d *prometheus.Desc, value float64, labels ...string) {
	out.send(d, prometheus.GaugeValue, value, labels)
}

func (out samples) counter(d *prometheus.Desc, value float64, labels ...string) {
	out.send(d, prometheus.CounterValue, value, labels)
}

// send replaces what is not UTF-8 in the labels, which the client library would panic at.
func (out samples) send(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels []string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
}

func (out samples) pods(views []PodView) {
	counts := map[string]int{}
	for _, v := range views {
		counts[v.State]++
	}
	for _, s := range podStates {
		out.gauge(pods, float64(counts[s.String()]), s.String())
	}
}

// report counts by group: those that the engine knows, and those that somebody is still a member of.
func (out samples) report(r stitch.Report) {
	counts, waiting := map[string]map[stitch.State]int{}, map[string]int{}
	for _, g := range r.Groups {
		counts[g.Name] = map[stitch.State]int{}
	}
	for _, m := range r.Members {
		if counts[m.Group] == nil {
			counts[m.Group] = map[stitch.State]int{}
		}
		counts[m.Group][m.State]++
		if m.Group != "" && m.State != stitch.Left && !m.Ready {
			waiting[m.Group]++
		}
	}
	for group, byState := range counts {
		for _, s := range memberStates {
			out.gauge(members, float64(byState[s]), group, string(s))
		}
		if group != "" {
			out.gauge(notReady, float64(waiting[group]), group)
		}
	}
	for _, kind := range repairKinds {
		out.counter(repairs, float64(r.Repairs[kind]), kind)
	}
}

func (out samples) gateways(views []GatewayView) {
	counts := map[string]map[bool]int{}
	for _, v := range views {
		if counts[v.Group] == nil {
			counts[v.Group] = map[bool]int{}
		}
		counts[v.Group][v.ready()]++
	}
	for group, byReady := range counts {
		for _, is := range []bool{true, false} {
			out.gauge(gateways, float64(byReady[is]), group, strconv.FormatBool(is))
		}
	}
}

func (out samples) attachments(s Source) {
	_, stats, _ := s.Attachments()
	out.gauge(attachmentPods, float64(stats.Pods))
	out.gauge(attachmentFiles, float64(stats.Files))
	out.gauge(attachmentLeftOver, float64(stats.LeftOver))
	out.gauge(attachmentProblems, float64(stats.Problems))
}

func (out samples) install(s install.Status) {
	out.gauge(installReady, oneIf(s.State == install.Ready))
	if s.State != "" {
		out.gauge(installInfo, 1, string(s.State), string(s.Reason))
	}
	out.counter(installPatches, float64(s.Patches))
}

// oneIf is 1 for true.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
