package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// account is a service account of the chart, and what its binary's code lists for it.
type account struct {
	file               string // of the chart, for its roles
	code               string // where the list is
	name, labels       string // the chart's templates of its name and labels
	cluster, namespace []permission.Permission
}

func accounts() []account {
	return []account{
		{
			file: "templates/rbac.yaml", code: "operator/controller/rbac.go", name: "tailgate.name", labels: "tailgate.labels",
			cluster: controller.ClusterPermissions(), namespace: controller.NamespacePermissions(),
		},
		{
			file: "templates/agent-rbac.yaml", code: "agent/daemon/rbac.go", name: "tailgate.agent.name", labels: "tailgate.agent.labels",
			cluster: daemon.ClusterPermissions(), namespace: daemon.NamespacePermissions(),
		},
	}
}

// roles returns the chart's template of an account's roles and their bindings. It is written out, and not made
// by a template, so that who audits the chart reads rules and reasons.
func (a account) roles() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{{- /* Written by go generate ./deploy from %s, where a test holds them against what is done with them. */ -}}\n", a.code)
	a.writeRole(&b, "Cluster", "", a.cluster)
	a.writeRole(&b, "", "\n  namespace: {{ .Release.Namespace }}", a.namespace)
	return b.Bytes()
}

func (a account) writeRole(b *bytes.Buffer, kind, namespace string, permissions []permission.Permission) {
	name := `{{ include "` + a.name + `" . }}`
	metadata := `
metadata:
  name: ` + name + namespace + `
  labels: {{- include "` + a.labels + `" . | nindent 4 }}
`
	fmt.Fprintf(b, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: %sRole%srules:\n", kind, metadata)
	for _, p := range permissions {
		fmt.Fprintf(b, "  # %s\n", p.Why)
		fmt.Fprintf(b, "  - apiGroups: %s\n", flow(p.APIGroups))
		fmt.Fprintf(b, "    resources: %s\n", flow(p.Resources))
		if len(p.ResourceNames) > 0 {
			fmt.Fprintf(b, "    resourceNames: %s\n", flow(p.ResourceNames))
		}
		fmt.Fprintf(b, "    verbs: %s\n", flow(p.Verbs))
	}
	fmt.Fprintf(b, `---
apiVersion: rbac.authorization.k8s.io/v1
kind: %[1]sRoleBinding%[2]sroleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: %[1]sRole
  name: %[3]s
subjects:
  - kind: ServiceAccount
    name: %[3]s
    namespace: {{ .Release.Namespace }}
`, kind, metadata, name)
}

// flow writes a list in YAML's flow style; the empty word, which is the core API group, is quoted.
func flow(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" {
			quoted[i] = `""`
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
