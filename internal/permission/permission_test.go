package permission_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/rajsinghtech/tailgate/internal/permission"
)

func TestRules(t *testing.T) {
	all := permission.New("follow all", "apps", "daemonsets", "list", "watch")
	one := all.Only("some")
	got := permission.Rules([]permission.Permission{all, one})
	want := []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, ResourceNames: []string{"some"}, Verbs: []string{"list", "watch"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if one.Why != "follow all" {
		t.Errorf("the reason became %q", one.Why)
	}
}
