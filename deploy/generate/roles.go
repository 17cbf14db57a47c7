package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rajsinghtech/tailgate/operator/controller"
)

// roles returns the chart's template of the operator's roles and their bindings. It is written out, and not made
// by a template, so that who audits the chart reads rules and reasons.
func roles() []byte {
	var b bytes.Buffer
	b.WriteString("{{- /* Written by go generate ./deploy from operator/controller/rbac.go, where a test holds them against what the operator does. */ -}}\n")
	writeRole(&b, "Cluster", "", controller.ClusterPermissions())
	writeRole(&b, "", "\n  namespace: {{ .Release.Namespace }}", controller.NamespacePermissions())
	return b.Bytes()
}

func writeRole(b *bytes.Buffer, kind, namespace string, permissions []controller.Permission) {
	const labels = `
  labels: {{- include "tailgate.labels" . | nindent 4 }}
`
	name := `
metadata:
  name: {{ include "tailgate.name" . }}` + namespace + labels
	fmt.Fprintf(b, "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: %sRole%srules:\n", kind, name)
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
  name: {{ include "tailgate.name" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "tailgate.name" . }}
    namespace: {{ .Release.Namespace }}
`, kind, name)
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
