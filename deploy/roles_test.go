package deploy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/deploy/rbac"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// TestRoles reads what the manifests grant, as Kubernetes does, and compares it with what the operator's code
// asks for; operator/controller has a test that all of that is used.
func TestRoles(t *testing.T) {
	granted, err := rbac.Rules(readAll(t, "manifests/tailgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want []rbac.Permission
	for place, permissions := range map[string][]controller.Permission{
		"": controller.ClusterPermissions(), "tailgate-system": controller.NamespacePermissions(),
	} {
		for _, p := range permissions {
			for _, verb := range p.Verbs {
				one := rbac.Permission{Verb: verb, Group: p.APIGroups[0], Resource: p.Resources[0], Namespace: place}
				if len(p.ResourceNames) > 0 {
					one.Name = p.ResourceNames[0]
				}
				want = append(want, one)
			}
		}
	}
	byText := cmpopts.SortSlices(func(a, b rbac.Permission) bool { return a.String() < b.String() })
	if diff := cmp.Diff(want, granted, byText); diff != "" {
		t.Errorf("permissions (-wanted +granted):\n%s", diff)
	}
}
