package deploy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/deploy/rbac"
	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// TestRoles reads what the manifests grant to whom, as Kubernetes does, and compares it with what the code of operator and
// agent asks for; they have tests that all of that is used.
func TestRoles(t *testing.T) {
	granted, err := rbac.Rules(readAll(t, "manifests/tailgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]rbac.Permission{
		"tailgate-system/tailgate-operator":       append(lines("", controller.ClusterPermissions()), lines(namespace, controller.NamespacePermissions())...),
		"tailgate-system/" + daemon.DaemonSetName: append(lines("", daemon.ClusterPermissions()), lines(namespace, daemon.NamespacePermissions())...),
	}
	byText := cmpopts.SortSlices(func(a, b rbac.Permission) bool { return a.String() < b.String() })
	if diff := cmp.Diff(want, granted, byText); diff != "" {
		t.Errorf("permissions (-wanted +granted):\n%s", diff)
	}
}

// lines returns what permissions allow in a namespace, "" for all, one verb at a time.
func lines(namespace string, permissions []permission.Permission) (all []rbac.Permission) {
	for _, p := range permissions {
		for _, verb := range p.Verbs {
			one := rbac.Permission{Verb: verb, Group: p.APIGroups[0], Resource: p.Resources[0], Namespace: namespace}
			if len(p.ResourceNames) > 0 {
				one.Name = p.ResourceNames[0]
			}
			all = append(all, one)
		}
	}
	return all
}

// TestAgentIsCalledOneName: what the agent's code calls itself is what the chart makes.
func TestAgentIsCalledOneName(t *testing.T) {
	d := render(t, "").agent(t)
	if d.Name != daemon.DaemonSetName || d.Spec.Template.Spec.ServiceAccountName != daemon.DaemonSetName {
		t.Errorf("the DaemonSet is %s with the account %s, want %s", d.Name, d.Spec.Template.Spec.ServiceAccountName, daemon.DaemonSetName)
	}
}
