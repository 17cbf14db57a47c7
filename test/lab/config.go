package lab

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"text/template"
)

//go:embed config
var configFS embed.FS

// templates are the files in config, by name.
var templates = template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
	"json": func(v any) (string, error) { // JSON is YAML, too
		b, err := json.Marshal(v)
		return string(b), err
	},
}).ParseFS(configFS, "config/*"))

// binDir is where machines find the lab's programs.
const binDir = "/lab/bin"

// values are what templates name.
type values struct {
	CNI         CNI
	Cgroup      string
	Bin         string
	Pause       string
	CoreDNS     string
	DNS         []string // of pods
	DNSFirst    string
	DNSAll      []string
	PodNets     string
	Any         string
	NodePodNets []netip.Prefix
	Defaults    []netip.Prefix
}

// newValues describes a node, or, when n is nil, the cluster.
func newValues(o Options, plan Plan, n *NodePlan, cgroup string) values {
	v := values{
		CNI: o.CNI, Cgroup: cgroup, Bin: binDir, Pause: PauseImage, CoreDNS: CoreDNSImage,
		DNS: []string{plan.DNS[0].String()}, DNSFirst: plan.DNS[0].String(), Any: "0.0.0.0",
		PodNets: join(plan.PodNets),
	}
	if plan.ControlPlane[0].Is6() {
		v.Any = "::"
	}
	for _, a := range plan.DNS {
		v.DNSAll = append(v.DNSAll, a.String())
	}
	if n != nil {
		v.NodePodNets = n.PodNets
		for _, p := range n.PodNets {
			v.Defaults = append(v.Defaults, defaultRoute(p.Addr()))
		}
	}
	return v
}

// render fills in a template.
func render(name string, v values) ([]byte, error) {
	var buf bytes.Buffer
	if err := templates.ExecuteTemplate(&buf, path.Base(name), v); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return buf.Bytes(), nil
}

// join lists values as flags of Kubernetes have them.
func join[T fmt.Stringer](all []T) string {
	var s []string
	for _, v := range all {
		s = append(s, v.String())
	}
	return strings.Join(s, ",")
}

// defaultRoute is everything, in the family of an address.
func defaultRoute(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
