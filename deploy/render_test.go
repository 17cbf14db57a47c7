package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
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

const everything = `
tailnet:
  loginServer: https://login.example.com
  credentials: {create: true, tailnet: example.com, clientID: id, clientSecret: "se:cr#et 'quo\"ted"}
gateway: {imagePullSecrets: [{name: a}, {name: b}]}
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
		{everything, append([]string{
			budget, service, "Secret some-namespace/tailgate-tailnet-creds", "PriorityClass /tailgate-critical",
			"ServiceMonitor some-namespace/tailgate-operator", "PodMonitor some-namespace/tailgate-gateway",
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

// checkSelectors: whatever selects the operator's pods does.
func checkSelectors(t *testing.T, o objects) {
	t.Helper()
	d := o.deployment(t)
	selectors := map[string]*metav1.LabelSelector{"Deployment": d.Spec.Selector}
	for _, obj := range o {
		switch obj := obj.(type) {
		case *corev1.Service:
			selectors["Service"] = &metav1.LabelSelector{MatchLabels: obj.Spec.Selector}
		case *policyv1.PodDisruptionBudget:
			selectors["PodDisruptionBudget"] = obj.Spec.Selector
		}
	}
	// And by nothing that an upgrade changes, which a Deployment would refuse.
	want := &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "tailgate-operator", "app.kubernetes.io/instance": "some-release"}}
	if !labels.SelectorFromSet(want.MatchLabels).Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("the pods have the labels %v", d.Spec.Template.Labels)
	}
	for kind, selector := range selectors {
		if diff := cmp.Diff(want, selector); diff != "" {
			t.Errorf("the %s's selector (-want +got):\n%s", kind, diff)
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
