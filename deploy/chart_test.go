package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/deploy/helm"
)

const chart = "chart/tailgate-operator"

// tool is Helm, built once.
var tool = sync.OnceValues(func() (*helm.Tool, error) { return helm.Build(context.Background(), "..") })

func runHelm(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	h, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return h.Run(t.Context(), args...)
}

// template renders the chart with the values of a YAML text.
func template(t *testing.T, values string) ([]byte, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "values-") // t.TempDir has the test's name, which may have commas, and those separate files for Helm
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o644); err != nil {
		t.Fatal(err)
	}
	return runHelm(t, "template", "some-release", chart, "--namespace=some-namespace", "--values="+file)
}

func TestLint(t *testing.T) {
	if out, err := runHelm(t, "lint", "--strict", chart); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestBadValues shows what Helm says of mistakes.
func TestBadValues(t *testing.T) {
	tests := []struct{ values, want string }{
		{"replicas: two", "at '/replicas': got string, want integer"},
		{"replicas: 9", "at '/replicas': maximum: got 9, want 5"},
		{"replica: 1", "additional properties 'replica' not allowed"},
		{"tailnet: {apiUrl: https://x.example}", "at '/tailnet': additional properties 'apiUrl' not allowed"},
		{"tailnet: {credentials: {clientsecret: x}}", "at '/tailnet/credentials': additional properties 'clientsecret' not allowed"},
		{"log: {level: trace}", "at '/log/level': value must be one of 'debug', 'info', 'warn', 'error'"},
		{"image: {pullPolicy: Sometimes}", "at '/image/pullPolicy': value must be one of '', 'Always', 'IfNotPresent', 'Never'"},
		{"image: {tag: 1.2}", "at '/image/tag': got number, want string"},
		{"image: {repository: null}", "at '/image': missing property 'repository'"},
		{"imagePullSecrets: [mine]", "at '/imagePullSecrets/0': got string, want object"},
		{"metrics: {port: 80}", "at '/metrics/port': minimum: got 80, want 1,024"},
		{"priorityClass: {name: ''}", "at '/priorityClass/name': minLength: got 0, want 1"},
		{"podAnnotations: {a: true}", "at '/podAnnotations/a': got boolean, want string"},
		{"extraEnv: [{value: x}]", "at '/extraEnv/0': missing property 'name'"},
		{"tailnet: {apiURL: api.example.com}", `tailnet.apiURL: "api.example.com" does not fit; write a URL such as https://api.tailscale.com`},
		{"tailnet: {apiURL: ''}", `tailnet.apiURL: "" does not fit; write a URL such as https://api.tailscale.com`},
		{"tailnet: {loginServer: login.example.com}", `tailnet.loginServer: "login.example.com" does not fit; write a URL such as https://login.example.com, or nothing for Tailscale's`},
		{"tailnet: {authKeyLifetime: 1 day}", `tailnet.authKeyLifetime: "1 day" does not fit; write a duration such as 24h or 36h30m`},
		{"tailnet: {cleanupTimeout: '60'}", `tailnet.cleanupTimeout: "60" does not fit; write a duration such as 1h or 90m`},
		{"tailnet: {credentials: {create: true, clientID: x}}", "tailnet.credentials.create makes a Secret of tailnet, clientID and clientSecret: set all three, or make the Secret yourself"},
		{"image: {repository: registry.example/operator:v1}", `image.repository: "registry.example/operator:v1" does not fit; write an image's name without tag and digest`},
		{"gateway: {image: {digest: '@sha256:12'}}", `gateway.image.digest: "@sha256:12" does not fit; write sha256: and 64 hexadecimal digits, as the registry shows it`},
		{"metrics: {port: 8081}", "metrics.port: 8081 is the port of the health probes; write another"},
		{"metrics: {podMonitor: {interval: often}}", `metrics.podMonitor.interval: "often" does not fit; write a duration such as 30s`},
		{"agent: {maxUnavailable: 0}", "at '/agent/maxUnavailable': minimum: got 0, want 1"},
		{"agent: {maxUnavailable: 0%}", "at '/agent/maxUnavailable': '0%' does not match pattern"},
		{"agent: {debug: {port: 1}}", "at '/agent/debug/port': minimum: got 1, want 1,024"},
		{"agent: {debug: {port: 9003}}", "agent.debug.port: 9003 is agent.metrics.port, too; write another"},
		{"agent: {seLinuxOptions: {label: x}}", "at '/agent/seLinuxOptions': additional properties 'label' not allowed"},
		{"agent: {image: {repository: 'a b'}}", `agent.image.repository: "a b" does not fit; write an image's name without tag and digest`},
		{"agent: {image: {digest: x}}", `agent.image.digest: "x" does not fit; write sha256: and 64 hexadecimal digits, as the registry shows it`},
		{"agent: {joinWait: '3'}", `agent.joinWait: "3" does not fit; write a duration such as 3s`},
		{"agent: {gatewayLinger: never}", `agent.gatewayLinger: "never" does not fit; write a duration such as 1m`},
		{"agent: {resolvers: [kube-dns]}", `agent.resolvers: "kube-dns" does not fit; write an address such as 10.96.0.10 or fd00:96::a`},
		{"cni: {mode: chain}", "at '/cni/mode': value must be one of 'chained', 'binary', 'disabled'"},
		{"cni: {keepBinary: 'yes'}", "at '/cni/keepBinary': got string, want boolean"},
		{"cni: {timeout: 5}", "at '/cni/timeout': got number, want string"},
		{"cni: {timeout: long}", `cni.timeout: "long" does not fit; write a duration such as 5s`},
		// What is above these would hide what the agent has at the same path.
		{"cni: {binDir: /opt/bin}", `cni.binDir: "/opt/bin" does not fit; write a folder such as /opt/cni/bin, three levels deep or more: the one above it is mounted into the agent`},
		{"cni: {confDir: /etc/cni/../net.d}", `cni.confDir: "/etc/cni/../net.d" does not fit; write a folder such as `},
		{"cni: {cacheDir: var/lib/cni/results}", `cni.cacheDir: "var/lib/cni/results" does not fit; write a folder such as `},
		{"clusterCIDRs: 10.0.0.0/8", "at '/clusterCIDRs': got string, want array"},
		{"clusterCIDRs: [10.0.0.0/8, 10.1.2.3]", `clusterCIDRs: "10.1.2.3" does not fit; write a prefix such as 10.42.0.0/16 or fd00:42::/56`},
		{"metrics: {service: {enabled: false}, serviceMonitor: {enabled: true}}", "metrics.serviceMonitor scrapes the Service of metrics.service: enable that, too"},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			out, err := template(t, tt.values)
			if err == nil {
				t.Fatalf("Helm takes it and renders\n%.200s", out)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Helm says\n%v\nand not\n%s", err, tt.want)
			}
		})
	}
}

// valueLine is a value with its key, or the beginning of a map.
var valueLine = regexp.MustCompile(`^( *)([A-Za-z]+):( .*)?$`)

// TestValuesDocumented: each value has a comment before it, and the schema knows it and says what it is.
func TestValuesDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var path []string
	documented := map[string]bool{}
	comment := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch m := valueLine.FindStringSubmatch(line); {
		case strings.HasPrefix(strings.TrimSpace(line), "#"):
			comment += line
		case m != nil && len(m[1])/2 <= len(path):
			path = append(path[:len(m[1])/2], m[2])
			name := strings.Join(path, ".")
			if hasComment := strings.Contains(comment, "# -- "); hasComment || m[3] != "" {
				documented[name] = hasComment
			}
			comment = ""
		default:
			comment = ""
		}
	}
	known := schemaValues(t)
	for name, ok := range documented {
		if !ok && !inside(name, documented) {
			t.Errorf("%s has no comment (# -- …)", name)
		}
	}
	for name, description := range known {
		if description == "" {
			t.Errorf("the schema does not say what %s is", name)
		}
		if documented[name] {
			delete(documented, name)
			continue
		}
		if name != "global" {
			t.Errorf("the schema has %s, and values.yaml does not", name)
		}
	}
	for name := range documented {
		if !inside(name, known) {
			t.Errorf("values.yaml has %s, and the schema does not", name)
		}
	}
}

// inside says whether a name is part of a value that is there as a whole, such as resources.requests.
func inside[V any](name string, values map[string]V) bool {
	for i := strings.LastIndex(name, "."); i > 0; i = strings.LastIndex(name[:i], ".") {
		if _, ok := values[name[:i]]; ok {
			return true
		}
	}
	return false
}

// whole are values that have parts of which the schema knows the names, and are documented as a whole.
var whole = []string{"resources", "seLinuxOptions"}

// schemaValues returns the description of each value that the schema has, by its dotted name.
func schemaValues(t *testing.T) map[string]string {
	t.Helper()
	type node struct {
		Description          string          `json:"description"`
		AdditionalProperties json.RawMessage `json:"additionalProperties"`
		Properties           map[string]node `json:"properties"`
	}
	data, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var root node
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var walk func(prefix string, n node)
	walk = func(prefix string, n node) {
		for name, child := range n.Properties {
			if string(child.AdditionalProperties) == "false" && !slices.Contains(whole, name) {
				walk(prefix+name+".", child)
			} else {
				found[prefix+name] = child.Description
			}
		}
	}
	walk("", root)
	return found
}

// TestImageReferences shows how the images' values make references.
func TestImageReferences(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	const (
		operator = "ghcr.io/rajsinghtech/tailgate-operator"
		gateway  = "ghcr.io/rajsinghtech/tailgate-gateway"
		agent    = "ghcr.io/rajsinghtech/tailgate-agent"
	)
	tests := []struct{ values, operator, gateway, agent string }{
		{"", operator + ":0.1.0", gateway + ":0.1.0", agent + ":0.1.0"},
		{"image: {repository: 'r.example:5000/op', tag: v9}", "r.example:5000/op:v9", gateway + ":0.1.0", agent + ":0.1.0"},
		{"agent: {image: {repository: r.example/agent, tag: v9}}", operator + ":0.1.0", gateway + ":0.1.0", "r.example/agent:v9"},
		{"image: {tag: v9, digest: " + digest + "}\ngateway: {image: {digest: " + digest + "}}\nagent: {image: {digest: " + digest + "}}",
			operator + "@" + digest, gateway + "@" + digest, agent + "@" + digest},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			o := render(t, tt.values)
			c := o.deployment(t).Spec.Template.Spec.Containers[0]
			got := []string{c.Image}
			for _, e := range c.Env {
				if e.Name == "GW_IMAGE" {
					got = append(got, e.Value)
				}
			}
			got = append(got, o.agent(t).Spec.Template.Spec.Containers[0].Image)
			if diff := cmp.Diff([]string{tt.operator, tt.gateway, tt.agent}, got); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

// TestArguments shows which values become which arguments.
func TestArguments(t *testing.T) {
	defaults := render(t, "").deployment(t)
	tests := []struct {
		values string
		want   map[string]string // the arguments that differ from the default ones
	}{
		{"tailnet: {apiURL: 'http://a.example:8080/x', loginServer: 'https://l.example'}",
			map[string]string{"tailnet-api-url": "http://a.example:8080/x", "login-server": "https://l.example"}},
		{"tailnet: {authKeyLifetime: 36h30m, cleanupTimeout: 1.5h}", map[string]string{"auth-key-lifetime": "36h30m", "cleanup-timeout": "1.5h"}},
		{"gateway: {image: {pullPolicy: Never}, imagePullSecrets: [{name: a}, {name: b}]}",
			map[string]string{"gateway-pull-policy": "Never", "gateway-pull-secrets": "a,b"}},
		{"gateway: {priorityClassName: mine}", map[string]string{"gateway-priority-class": "mine"}},
		{"priorityClass: {create: true}", map[string]string{"gateway-priority-class": "tailgate-critical"}},
		{"priorityClass: {create: true, name: x}\ngateway: {priorityClassName: mine}", map[string]string{"gateway-priority-class": "mine"}},
		{"workers: 9\nmetrics: {port: 9000}\nlog: {format: text, level: debug}",
			map[string]string{"workers": "9", "metrics-addr": ":9000", "log-format": "text", "log-level": "debug"}},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			want := arguments(t, defaults.Spec.Template)
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, arguments(t, render(t, tt.values).deployment(t).Spec.Template)); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

// everyAgentArgument are values that give the agent every argument and variable that the chart has for it, none of them the
// default.
const everyAgentArgument = `
agent:
  joinWait: 1.5s
  gatewayLinger: 0s
  resolvers: [10.96.0.10, "fd00:96::a"]
  metrics: {port: 9103}
  debug: {port: 9104}
  log: {format: text, level: debug}
cni: {mode: binary, binDir: /home/kubernetes/bin, confDir: /etc/kubernetes/cni/net.d, cacheDir: /var/lib/other/results, timeout: 1m, keepBinary: true}
clusterCIDRs: [10.42.0.0/16, "fd00:42::/56"]
`

// TestAgentArguments shows which values become which arguments and variables of the agent.
func TestAgentArguments(t *testing.T) {
	tests := []struct {
		values string
		want   map[string]string
		cidrs  string
	}{
		{"", map[string]string{
			"cni-mode": "chained", "cni-bin-dir": "/opt/cni/bin", "cni-conf-dir": "/etc/cni/net.d", "cni-cache-dir": "/var/lib/cni/results",
			"cni-timeout": "5s", "cni-keep-binary": "false", "join-wait": "3s", "gateway-linger": "1m",
			"public-addr": ":9003", "debug-addr": "127.0.0.1:9004", "log-format": "json", "log-level": "info",
		}, ""},
		{everyAgentArgument, map[string]string{
			"cni-mode": "binary", "cni-bin-dir": "/home/kubernetes/bin", "cni-conf-dir": "/etc/kubernetes/cni/net.d", "cni-cache-dir": "/var/lib/other/results",
			"cni-timeout": "1m", "cni-keep-binary": "true", "join-wait": "1.5s", "gateway-linger": "0s", "resolvers": "10.96.0.10,fd00:96::a",
			"public-addr": ":9103", "debug-addr": "127.0.0.1:9104", "log-format": "text", "log-level": "debug",
		}, "10.42.0.0/16,fd00:42::/56"},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			pod := render(t, tt.values).agent(t).Spec.Template
			if diff := cmp.Diff(tt.want, arguments(t, pod)); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			want := []corev1.EnvVar{
				{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
				{Name: "POD_NAMESPACE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}},
				{Name: "DAEMONSET_NAME", Value: daemon.DaemonSetName},
				{Name: "TAILGATE_CLUSTER_CIDRS", Value: tt.cidrs},
			}
			if diff := cmp.Diff(want, pod.Spec.Containers[0].Env); diff != "" {
				t.Errorf("variables (-want +got):\n%s", diff)
			}
		})
	}
}

// arguments returns those of a pod's container by name, with "" for one that has no value.
func arguments(t *testing.T, pod corev1.PodTemplateSpec) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, arg := range pod.Spec.Containers[0].Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if _, twice := found[name]; twice || !strings.HasPrefix(arg, "--") {
			t.Errorf("argument %q is no flag, or given twice", arg)
		}
		found[name] = value
	}
	return found
}

// names returns the kinds and names of what is rendered, sorted.
func (o objects) names() []string {
	var names []string
	for _, obj := range o {
		names = append(names, fmt.Sprintf("%s %s/%s", obj.GetObjectKind().GroupVersionKind().Kind, obj.GetNamespace(), obj.GetName()))
	}
	return slices.Sorted(slices.Values(names))
}
