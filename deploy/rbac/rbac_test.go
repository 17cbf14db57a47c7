package rbac

import (
	"io"
	"net/http"
	"net/http/httptest"
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
subjects: [{kind: ServiceAccount, name: x, namespace: here}]
---
`

func TestRules(t *testing.T) {
	granted, err := Rules([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	want := []Permission{
		{Verb: "get", Resource: "namespaces", Name: "kube-system"},
		{Verb: "get", Resource: "nodes"},
		{Verb: "patch", Resource: "nodes"},
		{Verb: "list", Group: "apps", Resource: "daemonsets", Namespace: "here"},
		{Verb: "list", Group: "apps", Resource: "daemonsets/status", Namespace: "here"},
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

// TestCompare records requests at a server of its own and holds them against the manifests.
func TestCompare(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/new") {
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer server.Close()
	var rec Recorder
	client := &http.Client{Transport: rec.Wrap(http.DefaultTransport)}
	for _, line := range []string{
		"GET /api/v1/nodes/one",
		"GET /api/v1/namespaces/kube-system",
		"GET /apis/apps/v1/namespaces/here/daemonsets?watch=true&sendInitialEvents=true",
		"GET /api/v1/namespaces/here/configmaps?watch=true",
		"GET /apis/apps/v1/namespaces/here/daemonsets",
		"GET /apis/apps/v1/namespaces/here/daemonsets?limit=1",
		"GET /api/v1/secrets?fieldSelector=metadata.name%3Dx",
		"PATCH /apis/apps/v1/namespaces/here/daemonsets/new",
		"PATCH /apis/apps/v1/namespaces/here/daemonsets/old",
		"PUT /apis/apps/v1/namespaces/here/daemonsets/old/status",
		"GET /healthz", "GET /apis", "GET /api/v1", "GET /version",
	} {
		method, path, _ := strings.Cut(line, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/apply-patch+yaml")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	want := []Permission{
		{Verb: "get", Resource: "namespaces", Name: "kube-system"},
		{Verb: "get", Resource: "nodes", Name: "one"},
		{Verb: "list", Resource: "secrets", Name: "x"},
		{Verb: "watch", Resource: "configmaps", Namespace: "here"},
		{Verb: "create", Group: "apps", Resource: "daemonsets", Namespace: "here", Name: "new"},
		{Verb: "list", Group: "apps", Resource: "daemonsets", Namespace: "here"},
		{Verb: "patch", Group: "apps", Resource: "daemonsets", Namespace: "here", Name: "new"},
		{Verb: "patch", Group: "apps", Resource: "daemonsets", Namespace: "here", Name: "old"},
		{Verb: "watch", Group: "apps", Resource: "daemonsets", Namespace: "here"},
		{Verb: "update", Group: "apps", Resource: "daemonsets/status", Namespace: "here", Name: "old"},
	}
	if diff := cmp.Diff(want, rec.Used()); diff != "" {
		t.Errorf("used (-want +got):\n%s", diff)
	}
	granted, err := Rules([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"patch nodes: never needed",
		"list daemonsets/status.apps in namespace here: never needed",
	}, Unused(granted, rec.Used())); diff != "" {
		t.Errorf("unused (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"list secrets x: not granted",
		"watch configmaps in namespace here: not granted",
		"create daemonsets.apps new in namespace here: not granted",
		"patch daemonsets.apps new in namespace here: not granted",
		"patch daemonsets.apps old in namespace here: not granted",
		"watch daemonsets.apps in namespace here: not granted",
		"update daemonsets/status.apps old in namespace here: not granted",
	}, Missing(granted, rec.Used())); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// TestTooWide: what is granted in every namespace and needed in one is too much.
func TestTooWide(t *testing.T) {
	granted := []Permission{{Verb: "list", Resource: "pods"}, {Verb: "get", Resource: "nodes"}}
	used := []Permission{{Verb: "list", Resource: "pods", Namespace: "here"}, {Verb: "get", Resource: "nodes", Name: "one"}}
	want := []string{"list pods: needed in namespace here only"}
	if diff := cmp.Diff(want, Unused(granted, used)); diff != "" {
		t.Errorf("unused (-want +got):\n%s", diff)
	}
}
