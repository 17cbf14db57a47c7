package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// objects are what the chart renders.
type objects []client.Object

// monitor is what the chart uses of the Prometheus operator's PodMonitor and ServiceMonitor
// (https://prometheus-operator.dev/docs/api-reference/api/).
type monitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodTargetLabels     []string             `json:"podTargetLabels,omitempty"`
		Endpoints           []monitorEndpoint    `json:"endpoints,omitempty"`
		PodMetricsEndpoints []monitorEndpoint    `json:"podMetricsEndpoints,omitempty"`
	} `json:"spec"`
}

type monitorEndpoint struct {
	Port     string `json:"port"`
	Interval string `json:"interval,omitempty"`
}

// DeepCopyObject is what a scheme asks of its types; nothing here changes one.
func (m *monitor) DeepCopyObject() runtime.Object { return m }

// decoder refuses fields that a kind does not have, and fields that are there twice.
var decoder = func() runtime.Decoder {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	for _, kind := range []string{"PodMonitor", "ServiceMonitor"} {
		s.AddKnownTypeWithName(schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: kind}, &monitor{})
	}
	return serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
}()

// decode reads every object of a rendering.
func decode(t *testing.T, text []byte) objects {
	t.Helper()
	var all objects
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var some map[string]any
		if err := yaml.Unmarshal(doc, &some); err == nil && some == nil {
			continue // comments only
		}
		obj, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		all = append(all, obj.(client.Object))
	}
}

// render renders the chart with the values of a YAML text, and reads the result.
func render(t *testing.T, values string) objects {
	t.Helper()
	text, err := template(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

func (o objects) deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	for _, obj := range o {
		if d, ok := obj.(*appsv1.Deployment); ok {
			return d
		}
	}
	t.Fatal("there is no Deployment")
	return nil
}

func (o objects) agent(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	for _, obj := range o {
		if d, ok := obj.(*appsv1.DaemonSet); ok {
			return d
		}
	}
	t.Fatal("there is no DaemonSet")
	return nil
}

const everything = `
tailnet:
  loginServer: https://login.example.com
  credentials: {create: true, tailnet: example.com, clientID: id, clientSecret: "se:cr#et 'quo\"ted"}
gateway: {imagePullSecrets: [{name: a}, {name: b}]}
agent:
  image: {pullPolicy: Always}
  imagePullSecrets: [{name: a}, {name: b}]
  maxUnavailable: 3
  resources: {limits: {cpu: 1}}
  priorityClassName: mine
  seLinuxOptions: {type: other_t, user: u, role: r}
  nodeSelector: {pool: some}
  tolerations: [{key: x, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: x, operator: DoesNotExist}]}]}}}
  podAnnotations: {a.example/b: "true"}
  podLabels: {team: net}
  extraEnv: [{name: KUBERNETES_SERVICE_HOST, value: "127.0.0.1"}]
cni: {mode: binary}
image: {pullPolicy: Always}
imagePullSecrets: [{name: c}]
replicas: 3
metrics:
  service: {annotations: {prometheus.io/scrape: "true"}}
  serviceMonitor: {enabled: true, labels: {release: p}, interval: 30s}
  podMonitor: {enabled: true, labels: {release: p}, interval: 1m}
serviceAccount: {annotations: {a.example/b: c}}
priorityClass: {create: true}
resources: {limits: {cpu: 1}}
nodeSelector: {pool: system}
tolerations: [{key: x, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: x, operator: Exists}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]
podAnnotations: {a.example/b: "true"}
podLabels: {team: net}
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example:3128"}, {name: X, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
`

// TestRenderings reads what several sets of values make as Kubernetes does, and lists it.
func TestRenderings(t *testing.T) {
	always := []string{
		"ClusterRole /tailgate-agent", "ClusterRoleBinding /tailgate-agent", "DaemonSet some-namespace/tailgate-agent",
		"Role some-namespace/tailgate-agent", "RoleBinding some-namespace/tailgate-agent", "ServiceAccount some-namespace/tailgate-agent",
		"ClusterRole /tailgate-operator", "ClusterRoleBinding /tailgate-operator", "Deployment some-namespace/tailgate-operator",
		"Role some-namespace/tailgate-operator", "RoleBinding some-namespace/tailgate-operator", "ServiceAccount some-namespace/tailgate-operator",
	}
	crds := []string{
		"CustomResourceDefinition /egressgateways.tailscale.rajsingh.info", "CustomResourceDefinition /egressgroups.tailscale.rajsingh.info",
	}
	const (
		budget  = "PodDisruptionBudget some-namespace/tailgate-operator"
		service = "Service some-namespace/tailgate-operator-metrics"
	)
	tests := []struct {
		values string
		more   []string // beside those that are always there
	}{
		{"", append([]string{budget, service}, crds...)},
		{"crds: {install: false}\nmetrics: {service: {enabled: false}}\npodDisruptionBudget: {enabled: false}\nreplicas: 0", nil},
		{"crds: {install: false}\nglobal: {x: y}\nresources: {requests: null, limits: null}\nnodeSelector: null", []string{budget, service}},
		{"cni: {mode: disabled}\nagent: {seLinuxOptions: null, nodeSelector: null, tolerations: [], resources: {requests: null, limits: null}}", append([]string{budget, service}, crds...)},
		{everything, append([]string{
			budget, service, "Secret some-namespace/tailgate-tailnet-creds", "PriorityClass /tailgate-critical",
			"ServiceMonitor some-namespace/tailgate-operator", "PodMonitor some-namespace/tailgate-gateway",
			"PodMonitor some-namespace/tailgate-agent",
		}, crds...)},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			o := render(t, tt.values)
			want := slices.Sorted(slices.Values(slices.Concat(always, tt.more)))
			if diff := cmp.Diff(want, o.names()); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			checkSelectors(t, o)
			checkLabels(t, o)
		})
	}
}

// checkSelectors: whatever selects the pods of operator or agents does.
func checkSelectors(t *testing.T, o objects) {
	t.Helper()
	selectors := map[string]*metav1.LabelSelector{}
	pods := map[string]map[string]string{}
	for _, obj := range o {
		name := obj.GetObjectKind().GroupVersionKind().Kind + " " + obj.GetName()
		switch obj := obj.(type) {
		case *appsv1.Deployment:
			selectors[name], pods[obj.Name] = obj.Spec.Selector, obj.Spec.Template.Labels
		case *appsv1.DaemonSet:
			selectors[name], pods[obj.Name] = obj.Spec.Selector, obj.Spec.Template.Labels
		case *corev1.Service:
			selectors[name] = &metav1.LabelSelector{MatchLabels: obj.Spec.Selector}
		case *policyv1.PodDisruptionBudget:
			selectors[name] = obj.Spec.Selector
		case *monitor:
			if obj.Name != "tailgate-gateway" && obj.Kind == "PodMonitor" {
				selectors[name] = &obj.Spec.Selector
			}
		}
	}
	for name, selector := range selectors {
		_, of, _ := strings.Cut(name, " ")
		of = strings.TrimSuffix(of, "-metrics")
		// And by nothing that an upgrade changes, which a Deployment or a DaemonSet would refuse.
		want := &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": of, "app.kubernetes.io/instance": "some-release"}}
		if diff := cmp.Diff(want, selector); diff != "" {
			t.Errorf("the selector of %s (-want +got):\n%s", name, diff)
		}
		if !labels.SelectorFromSet(want.MatchLabels).Matches(labels.Set(pods[of])) {
			t.Errorf("the pods of %s have the labels %v", of, pods[of])
		}
	}
}

// checkLabels: everything can be told as tailgate's, and CRDs are kept.
func checkLabels(t *testing.T, o objects) {
	t.Helper()
	for _, obj := range o {
		kind := obj.GetObjectKind().GroupVersionKind().Kind
		if obj.GetLabels()["app.kubernetes.io/part-of"] != "tailgate" {
			t.Errorf("%s %s has the labels %v", kind, obj.GetName(), obj.GetLabels())
		}
		kept := obj.GetAnnotations()["helm.sh/resource-policy"] == "keep"
		if kept != (kind == "CustomResourceDefinition") {
			t.Errorf("%s %s: kept at uninstall: %v", kind, obj.GetName(), kept)
		}
	}
}

// TestCRDsUnchanged: what Helm makes of the CRDs says the same as the generated ones.
func TestCRDsUnchanged(t *testing.T) {
	want := map[string]apiextensionsv1.CustomResourceDefinitionSpec{}
	for _, obj := range decode(t, readAll(t, "crds/*.yaml")) {
		want[obj.GetName()] = obj.(*apiextensionsv1.CustomResourceDefinition).Spec
	}
	got := map[string]apiextensionsv1.CustomResourceDefinitionSpec{}
	for _, obj := range render(t, "") {
		if crd, ok := obj.(*apiextensionsv1.CustomResourceDefinition); ok {
			got[crd.Name] = crd.Spec
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("CRDs (-generated +chart):\n%s", diff)
	}
}

// TestRestricted: the operator's pods pass where a namespace demands the strictest level of pod security.
func TestRestricted(t *testing.T) {
	pod := render(t, "").deployment(t).Spec.Template.Spec
	c := pod.Containers[0]
	for what, ok := range map[string]bool{
		"runs as another user than root": *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser == 65532,
		"has RuntimeDefault seccomp":     pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"cannot gain privileges":         !*c.SecurityContext.AllowPrivilegeEscalation,
		"has a read-only root":           *c.SecurityContext.ReadOnlyRootFilesystem,
		"drops all capabilities":         slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) && c.SecurityContext.Capabilities.Add == nil,
		"uses nothing of the node":       len(pod.Volumes) == 0 && !pod.HostNetwork && !pod.HostPID && !pod.HostIPC,
		"has requests and a limit":       len(c.Resources.Requests) == 2 && !c.Resources.Limits.Memory().IsZero(),
		"is leader-elected":              slices.Contains(c.Args, "--leader-elect") && strings.HasPrefix(c.LivenessProbe.HTTPGet.Path, "/healthz"),
	} {
		if !ok {
			t.Errorf("the operator's pod is not as it should: %s", what)
		}
	}
}

// TestAgentPrivileges pins all that an agent has of its node. What it has and why is told in README.md, too.
func TestAgentPrivileges(t *testing.T) {
	pod := render(t, "").agent(t).Spec.Template.Spec
	c := pod.Containers[0]
	for what, ok := range map[string]bool{
		"has the node's network":     pod.HostNetwork && pod.DNSPolicy == corev1.DNSClusterFirstWithHostNet,
		"sees no process of another": !pod.HostPID && !pod.HostIPC && pod.ShareProcessNamespace == nil,
		"has one container":          len(pod.Containers) == 1 && pod.InitContainers == nil,
		"has its token":              *pod.AutomountServiceAccountToken,
		"has requests and a limit":   len(c.Resources.Requests) == 2 && !c.Resources.Limits.Memory().IsZero(),
		"may take its time to end":   *pod.TerminationGracePeriodSeconds == 15,
	} {
		if !ok {
			t.Errorf("the agent's pod is not as it should: %s", what)
		}
	}
	profile := &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	if diff := cmp.Diff(profile, pod.SecurityContext); diff != "" {
		t.Errorf("security context of the pod (-want +got):\n%s", diff)
	}
	want := &corev1.SecurityContext{
		RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), Privileged: new(false), AllowPrivilegeEscalation: new(true), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{
			Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "DAC_OVERRIDE", "CHOWN", "FOWNER"},
		},
		SELinuxOptions: &corev1.SELinuxOptions{Type: "spc_t", Level: "s0"},
	}
	if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
		t.Errorf("security context of the container (-want +got):\n%s", diff)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, capability := range want.Capabilities.Add {
		if !bytes.Contains(readme, []byte("`"+capability+"`")) {
			t.Errorf("README.md does not say what %s is for", capability)
		}
	}
	for _, v := range pod.Volumes {
		if !bytes.Contains(readme, []byte("`"+v.HostPath.Path+"`")) {
			t.Errorf("README.md does not say what %s of the node is for", v.HostPath.Path)
		}
	}
}

// TestAgentFolders shows which folders of the node an agent sees, and how.
func TestAgentFolders(t *testing.T) {
	common := []string{"/proc/sys/net at /host/proc/sys/net", "/run/netns read-only HostToContainer", "/run/tailgate"}
	tests := []struct {
		values string
		want   []string
	}{
		{"", []string{"/opt/cni", "/etc/cni", "/var/lib/cni read-only"}},
		// What an earlier mode put in has to be taken out.
		{"cni: {mode: disabled}", []string{"/opt/cni", "/etc/cni", "/var/lib/cni read-only"}},
		{"cni: {mode: binary}", []string{"/opt/cni", "/etc/cni", "/var/lib/cni read-only"}},
		{"cni: {binDir: /var/lib/cni/bin, confDir: /etc/cni/multus/net.d}", []string{"/var/lib/cni", "/etc/cni/multus"}},
		{"cni: {binDir: /opt/cni/bin, confDir: /opt/cni/net.d}", []string{"/opt/cni", "/var/lib/cni read-only"}},
		{"cni: {binDir: /srv/cni/bin, confDir: /srv/cni/net.d, cacheDir: /srv/cni/results}", []string{"/srv/cni"}},
	}
	for _, tt := range tests {
		t.Run(tt.values, func(t *testing.T) {
			pod := render(t, tt.values).agent(t).Spec.Template.Spec
			want := slices.Sorted(slices.Values(append(tt.want, common...)))
			if diff := cmp.Diff(want, folders(t, pod)); diff != "" {
				t.Errorf("folders (-want +got):\n%s", diff)
			}
		})
	}
}

// folders returns what of the node is mounted into a pod's container, a line each.
func folders(t *testing.T, pod corev1.PodSpec) []string {
	t.Helper()
	var lines []string
	for _, m := range pod.Containers[0].VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 || pod.Volumes[i].HostPath == nil {
			t.Fatalf("the volume %s is not there, or of another kind", m.Name)
		}
		path := pod.Volumes[i].HostPath.Path
		line := path
		if m.MountPath != path {
			line += " at " + m.MountPath
		}
		if m.ReadOnly {
			line += " read-only"
		}
		if m.MountPropagation != nil {
			line += " " + string(*m.MountPropagation)
		}
		kind := corev1.HostPathDirectoryOrCreate
		if strings.HasPrefix(path, "/proc/") {
			kind = corev1.HostPathDirectory
		}
		if got := *pod.Volumes[i].HostPath.Type; got != kind {
			t.Errorf("%s is of type %s, want %s", path, got, kind)
		}
		lines = append(lines, line)
	}
	if len(lines) != len(pod.Volumes) {
		t.Errorf("%d volumes are mounted %d times", len(pod.Volumes), len(lines))
	}
	slices.Sort(lines)
	return lines
}

// TestAgentPriority shows which priority class an agent gets: the gateways' rule.
func TestAgentPriority(t *testing.T) {
	for values, want := range map[string]string{
		"":                              "system-node-critical",
		"priorityClass: {create: true}": "tailgate-critical",
		"priorityClass: {create: true}\nagent: {priorityClassName: mine}": "mine",
	} {
		if got := render(t, values).agent(t).Spec.Template.Spec.PriorityClassName; got != want {
			t.Errorf("with %q the agent has the priority class %q, want %q", values, got, want)
		}
	}
}
