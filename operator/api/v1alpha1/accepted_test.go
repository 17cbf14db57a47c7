package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

func TestAccepted(t *testing.T) {
	env := kubetest.Shared(t)
	for _, spec := range []string{
		`{selector: {podSelector: {}}}`,
		`{selector: {namespaceSelector: {}}}`,
		`{selector: {namespaceSelector: {}, podSelector: {}}}`,
		`{selector: {podSelector: {matchLabels: {a: "", example.com/A_b.c: x-1}}}}`,
		`{selector: {podSelector: {matchExpressions: [{key: a, operator: In, values: ["", x]}, {key: b, operator: Exists}, {key: c, operator: DoesNotExist, values: []}]}}}`,
		`{selector: {podSelector: {matchLabels: {` + strings.Repeat("s", 253) + `/` + strings.Repeat("k", 63) + `: ` + strings.Repeat("v", 63) + `}}}}`,
		all(`mode: cgnat, routes: []`),
		all(`mode: subnet`),
		subnet(``),
		// Wider than what is not routed, beside it, and in a tailnet's own.
		subnet(`10.0.0.0/8, 192.168.0.0/16, 1.2.3.4/32, 128.0.0.0/1, 0.0.0.0/1, 126.0.0.0/7, 169.0.0.0/8, 100.64.0.0/10, 240.0.0.0/4`),
		subnet(`"fd00:1::/48", "2001:db8::1/128", "fd2c:7d4a:91e6::/48", "fd7a:115c:a1e0:b1a::/64", "64:ff9b::/96", "8000::/1"`),
		exit(`{nodeID: nXyZ12CNTRL}`),
		exit(`{nodeID: "auto:any"}`),
		exit(`{nodeID: 100.64.0.1}`),
		exit(`{nodeID: 100.127.255.254, allowLANAccess: true}`),
		exit(`{nodeID: "fd7a:115c:a1e0::1"}`),
		exit(`{nodeID: "FD7A:115C:A1E0:0::1"}`),
		exit(`{nodeID: exit-fra1}`),
		exit(`{nodeID: Exit-Fra1.Your-Org.ts.net.}`),
		exit(`{nodeID: "1"}`),
		exit(`{nodeID: 3.example.com}`),
		exit(`null`),
		all(`tags: ["tag:a", "tag:Egress-1"]`),
		all(`replicas: 1, attach: routed, datapath: kernel, acceptRoutes: false, dns: {magicDNS: true}`),
		all(`replicas: null, mode: null, tags: null`),
		all(`gateway: {nodes: all, resources: {}}`),
		all(`gateway: {resources: {requests: {cpu: 20m, memory: 64Mi, ephemeral-storage: 0}, limits: {cpu: 1, memory: 64Mi}}}`),
		all(`gateway: {resources: {requests: {cpu: 2}, limits: {memory: 1Gi}}}`),
	} {
		if got := dryRun(t, env, object(t, "EgressGroup", "good", spec)); got != nil {
			t.Errorf("%s:\n%s", spec, strings.Join(got, "\n"))
		}
	}
}

// TestLimits fills every list to its limit: the rules' costs at run time, too, are within what the server allows.
func TestLimits(t *testing.T) {
	env := kubetest.Shared(t)
	list := func(n int, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		return strings.Join(items, ", ")
	}
	long := func(i, n int) string {
		s := strings.Repeat("x", n-5) + "00000"
		digits := []byte(s)
		for at := len(s) - 1; i > 0; at, i = at-1, i/10 {
			digits[at] = byte('0' + i%10)
		}
		return string(digits)
	}
	key := func(i int) string { return strings.Repeat("s", 253) + "/" + long(i, 63) }
	values := list(256, func(i int) string { return long(i, 63) })
	labels := `{matchLabels: {` + list(32, func(i int) string { return key(i) + `: ` + long(i, 63) }) + `}, matchExpressions: [` +
		list(32, func(i int) string { return `{key: ` + key(i) + `, operator: In, values: [` + values + `]}` }) + `]}`
	spec := `{selector: {namespaceSelector: ` + labels + `, podSelector: ` + labels + `}, mode: subnet, routes: [` +
		list(256, func(i int) string { return `"1111:1111:1111:1111:1111:1111:1111:1` + long(i, 6)[3:] + `/128"` }) + `], tags: [` +
		list(32, func(i int) string { return `"tag:` + long(i, 252) + `"` }) + `], exitNode: {nodeID: "` + strings.Repeat("a.", 126) + `a"}}`
	if got := dryRun(t, env, object(t, "EgressGroup", "large", spec)); got != nil {
		t.Error(strings.Join(got, "\n"))
	}
}

func TestDefaults(t *testing.T) {
	env := kubetest.Shared(t)
	for _, tt := range []struct{ kind, spec, want string }{
		{
			"EgressGroup", `{selector: {podSelector: {}}}`,
			`{selector: {podSelector: {}}, mode: cgnat, acceptRoutes: true, replicas: 1, attach: routed, datapath: kernel}`,
		},
		{
			"EgressGroup", all(`exitNode: {nodeID: "auto:any"}, dns: {}, gateway: {}`),
			`{selector: {podSelector: {}}, mode: cgnat, acceptRoutes: true, replicas: 1, attach: routed, datapath: kernel,
				exitNode: {nodeID: "auto:any", allowLANAccess: false}, dns: {magicDNS: false}, gateway: {nodes: members}}`,
		},
		{"EgressGateway", `{group: g, node: node-1}`, `{group: g, node: node-1, active: true}`},
	} {
		o := object(t, tt.kind, "defaults", tt.spec)
		if got := dryRun(t, env, o); got != nil {
			t.Fatal(strings.Join(got, "\n"))
		}
		want := object(t, tt.kind, "defaults", tt.want)
		if diff := cmp.Diff(text(t, want.Object["spec"]), text(t, o.Object["spec"])); diff != "" {
			t.Errorf("%s %s with defaults (-want +got):\n%s", tt.kind, tt.spec, diff)
		}
	}
}

// TestNewStatus shows what there is before the operator or an agent wrote any status.
func TestNewStatus(t *testing.T) {
	env := kubetest.Shared(t)
	for _, tt := range []struct{ kind, spec, want string }{
		{"EgressGroup", all(``), `{memberPods: 0, gateways: {desired: 0, ready: 0}}`},
		{"EgressGateway", `{group: g, node: node-1}`, `{members: 0}`},
	} {
		o := object(t, tt.kind, "new-status", tt.spec)
		if err := env.Client.Create(env.Context, o); err != nil {
			t.Fatal(err)
		}
		if err := env.Client.Get(env.Context, client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		want := object(t, tt.kind, "", tt.want)
		if diff := cmp.Diff(text(t, want.Object["spec"]), text(t, o.Object["status"])); diff != "" {
			t.Errorf("status of a new %s (-want +got):\n%s", tt.kind, diff)
		}
	}
}

// example returns a file of deploy/examples, as text and parsed.
func example(t *testing.T, name string) (string, *v1alpha1.EgressGroup) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(kubetest.Root(t), "deploy/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	group := &v1alpha1.EgressGroup{}
	if err := yaml.UnmarshalStrict(file, group); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(file), group
}
