package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// TestExamples applies the files of deploy/examples as they stand, then the patches that users are shown, with kubectl.
func TestExamples(t *testing.T) {
	env := kubetest.Shared(t)
	for _, tt := range []struct {
		file, name, want string
		patches          []patch
	}{
		{file: "peers.yaml", name: "peers", want: `
acceptRoutes: true
attach: routed
datapath: kernel
mode: cgnat
replicas: 1
selector:
  podSelector:
    matchLabels:
      tailgate.dev/egress: "true"
`},
		{file: "payments.yaml", name: "payments", want: `
acceptRoutes: true
attach: routed
datapath: kernel
exitNode:
  allowLANAccess: true
  nodeID: exit-fra1.your-org.ts.net
mode: subnet
replicas: 1
routes:
- 10.0.0.0/8
selector:
  namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: payments
  podSelector:
    matchLabels:
      tailgate.dev/egress: "true"
`, patches: []patch{
			{`{"spec":{"routes":["10.0.0.0/8","192.168.0.0/16"]}}`, "- 10.0.0.0/8\n", "- 10.0.0.0/8\n- 192.168.0.0/16\n"},
			{`{"spec":{"exitNode":{"nodeID":"exit-ams1.your-org.ts.net","allowLANAccess":true}}}`, "exit-fra1", "exit-ams1"},
			{`{"spec":{"acceptRoutes":false}}`, "acceptRoutes: true", "acceptRoutes: false"},
		}},
	} {
		manifest, parsed := example(t, tt.file)
		if parsed.Name != tt.name {
			t.Fatalf("%s is of %s, want %s", tt.file, parsed.Name, tt.name)
		}
		out, err := env.Kubectl(manifest, "apply", "-f", "-")
		if err != nil {
			t.Fatal(err)
		}
		if want := "egressgroup.tailscale.rajsingh.info/" + tt.name + " created\n"; out != want {
			t.Errorf("kubectl apply said %q, want %q", out, want)
		}
		want := strings.TrimPrefix(tt.want, "\n")
		wantSpec(t, env, tt.name, want)
		for _, p := range tt.patches {
			if _, err := env.Kubectl("", "patch", "eg", tt.name, "--type=merge", "-p", p.json); err != nil {
				t.Fatal(err)
			}
			want = strings.ReplaceAll(want, p.from, p.to)
			wantSpec(t, env, tt.name, want)
		}
	}
}

// patch is a merge patch and what it replaces in the spec as YAML.
type patch struct{ json, from, to string }

// wantSpec compares a group's spec, as YAML.
func wantSpec(t *testing.T, env *kubetest.Env, name, want string) {
	t.Helper()
	o := object(t, "EgressGroup", name, "{}")
	if err := env.Client.Get(env.Context, client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, text(t, o.Object["spec"])); diff != "" {
		t.Errorf("spec of %s (-want +got):\n%s", name, diff)
	}
}

// TestChanges refuses changes that lead to what would have been refused at creation, and those of what never changes.
func TestChanges(t *testing.T) {
	env := kubetest.Shared(t)
	specs := map[string]string{
		"EgressGroup":   subnet(`10.0.0.0/8`),
		"EgressGateway": `{group: payments, node: node-1}`,
	}
	for kind, spec := range specs {
		if err := env.Client.Create(env.Context, object(t, kind, "change", spec)); err != nil {
			t.Fatal(err)
		}
	}
	const never = `spec: Invalid value: group and node of an EgressGateway never change; delete it and create another`
	for _, tt := range []struct {
		kind, patch string
		want        []string
	}{
		{"EgressGroup", `{"spec":{"mode":"cgnat"}}`, []string{
			`spec.routes: Invalid value: routes need mode: subnet; write that, or remove the routes: in mode cgnat members reach tailnet peers only`,
		}},
		{"EgressGroup", `{"spec":{"mode":null}}`, []string{
			`spec.routes: Invalid value: routes need mode: subnet; write that, or remove the routes: in mode cgnat members reach tailnet peers only`,
		}},
		{"EgressGroup", `{"spec":{"mode":"cgnat","routes":null}}`, nil},
		{"EgressGroup", `{"spec":{"selector":{"podSelector":null}}}`, []string{
			`spec.selector: Invalid value: selector is empty; write a namespaceSelector, a podSelector or both, or podSelector: {} to select every pod of the cluster`,
		}},
		{"EgressGroup", `{"spec":{"selector":{"podSelector":null,"namespaceSelector":{}}}}`, nil},
		{"EgressGateway", `{"spec":{"group":"other"}}`, []string{never}},
		{"EgressGateway", `{"spec":{"node":"node-2"}}`, []string{never}},
		{"EgressGateway", `{"spec":{"active":false}}`, nil},
	} {
		o := object(t, tt.kind, "change", "{}")
		got := faults(t, env.Client.Patch(env.Context, o, client.RawPatch(types.MergePatchType, []byte(tt.patch)), client.DryRunAll))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("faults of %s %s (-want +got):\n%s", tt.kind, tt.patch, diff)
		}
	}
}

// TestSelectableFields lists gateways by group and by node, as the operator and each agent do.
func TestSelectableFields(t *testing.T) {
	env := kubetest.Shared(t)
	namespace := env.Namespace()
	for _, at := range [][2]string{{"a", "node-1"}, {"a", "node-2"}, {"b", "node-1"}} {
		o := object(t, "EgressGateway", v1alpha1.GatewayName(at[0], at[1]), `{group: `+at[0]+`, node: `+at[1]+`}`)
		o.SetNamespace(namespace)
		if err := env.Client.Create(env.Context, o); err != nil {
			t.Fatal(err)
		}
	}
	for field, want := range map[string][]string{
		"spec.group=a":                   {"a node-1", "a node-2"},
		"spec.node=node-1":               {"a node-1", "b node-1"},
		"spec.group=b,spec.node=node-1":  {"b node-1"},
		"spec.group=b,spec.node!=node-1": nil,
	} {
		out, err := env.Kubectl("", "get", "egw", "-n", namespace, "--field-selector="+field,
			`-o=jsonpath={range .items[*]}{.spec.group} {.spec.node}{"\n"}{end}`)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if out != "" {
			got = strings.Split(strings.TrimSpace(out), "\n")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("gateways with %s (-want +got):\n%s", field, diff)
		}
	}
}
