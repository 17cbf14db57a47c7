package rbac

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const manifests = `
kind: ClusterRole
metadata: {name: wide}
rules:
  - {apiGroups: [""], resources: [nodes], verbs: [get, patch]}
  - {apiGroups: [""], resources: [namespaces], resourceNames: [kube-system], verbs: [get]}
---
kind: Deployment
metadata: {name: other, namespace: here}
spec: {rules: none}
---
kind: Role
metadata: {name: narrow, namespace: here}
rules:
  - {apiGroups: [apps], resources: [daemonsets, daemonsets/status], verbs: [list]}
---
kind: RoleBinding
metadata: {name: narrow, namespace: here}
roleRef: {kind: Role, name: narrow}
subjects: [{kind: ServiceAccount, name: x, namespace: here}]
---
kind: ClusterRoleBinding
metadata: {name: wide}
roleRef: {kind: ClusterRole, name: wide}
subjects: [{kind: ServiceAccount, name: x, namespace: here}, {kind: ServiceAccount, name: z, namespace: there}]
---
`

func TestRules(t *testing.T) {
	granted, err := Rules([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	wide := []Permission{
		{Verb: "get", Resource: "namespaces", Name: "kube-system"},
		{Verb: "get", Resource: "nodes"},
		{Verb: "patch", Resource: "nodes"},
	}
	want := map[string][]Permission{
		"here/x": append(slices.Clip(wide),
			Permission{Verb: "list", Group: "apps", Resource: "daemonsets", Namespace: "here"},
			Permission{Verb: "list", Group: "apps", Resource: "daemonsets/status", Namespace: "here"}),
		"there/z": wide,
	}
	if diff := cmp.Diff(want, granted); diff != "" {
		t.Errorf("permissions (-want +got):\n%s", diff)
	}
}

func TestRulesWrong(t *testing.T) {
	tests := []struct{ old, new, want string }{
		{"verbs: [list]", "verbs: ['*']", "has a wildcard"},
		{"resources: [nodes]", "resources: ['*/status']", "has a wildcard"},
		{"verbs: [list]", "verbs: []", "grants something else than verbs on resources"},
		{"resources: [nodes], verbs", "resources: [nodes], nonResourceURLs: [/metrics], verbs", "grants something else than verbs on resources"},
		{"roleRef: {kind: Role, name: narrow}", "roleRef: {kind: Role, name: other}", "RoleBinding narrow binds nobody, or the Role other, which is not there\nRole narrow is bound by nothing"},
		{"metadata: {name: narrow, namespace: here}\nroleRef", "metadata: {name: narrow, namespace: there}\nroleRef", "RoleBinding narrow binds nobody, or the Role narrow, which is not there\nRole narrow is bound by nothing"},
		{"subjects: [{kind: ServiceAccount, name: x, namespace: here}]\n---\nkind", "subjects: []\n---\nkind", "RoleBinding narrow binds nobody"},
		{"subjects: [{kind: ServiceAccount, name: x, namespace: here}]\n---\nkind", "subjects: [{kind: Group, name: everyone}]\n---\nkind", "RoleBinding narrow binds the Group everyone, which is no service account"},
		{"spec: {rules: none}", "spec: {rules: none", "read manifests: "},
	}
	for _, tt := range tests {
		t.Run(tt.new, func(t *testing.T) {
			changed := strings.Replace(manifests, tt.old, tt.new, 1)
			if changed == manifests {
				t.Fatalf("%q is not in the manifests", tt.old)
			}
			if _, err := Rules([]byte(changed)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}
