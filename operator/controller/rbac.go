package controller

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// LeaseName is that of the Lease by which operators elect a leader.
const LeaseName = "tailgate-operator"

// Permission is a rule of the operator's roles and the reason for it.
type Permission struct {
	rbacv1.PolicyRule
	// Why is a phrase for a comment.
	Why string
}

// ClusterPermissions are what the operator needs in the whole cluster. Tests run it with these and those of
// [NamespacePermissions] only, and fail when one of them is never used.
func ClusterPermissions() []Permission {
	group := v1alpha1.GroupVersion.Group
	return []Permission{
		{rule(group, "egressgroups", "get", "list", "watch", "patch"), "watch groups; their finalizer"},
		{rule(group, "egressgroups/status", "patch"), "report on groups"},
		{rule(group, "egressgroups/finalizers", "update"), "own objects whose deletion a group waits for (admission OwnerReferencesPermissionEnforcement)"},
		{rule("", "nodes", "get", "list", "watch", "patch"), "label the nodes that gateways run on, by metadata only"},
		{only(rule("", "namespaces", "get"), "kube-system"), "its UID tells the cluster from others in the same tailnet"},
		{rule("events.k8s.io", "events", "create", "patch"), "events, which those about groups and nodes have in the namespace default"},
	}
}

// NamespacePermissions are what the operator needs in its own namespace.
func NamespacePermissions() []Permission {
	return []Permission{
		{rule(v1alpha1.GroupVersion.Group, "egressgateways", "get", "list", "watch", "patch", "delete"), "follow gateways; their finalizer; delete them with their group or node"},
		{rule("apps", "daemonsets", "get", "list", "watch", "create", "patch", "delete"), "run gateways (create is part of server-side apply)"},
		{rule("", "configmaps", "get", "list", "watch", "create", "patch", "delete"), "the gateways' configuration"},
		{rule("", "serviceaccounts", "get", "list", "watch", "create", "patch", "delete"), "the gateways' account, which has no rights and no token"},
		{rule("", "secrets", "get", "list", "watch", "create", "patch", "delete"), "auth keys, and the tailnet's credentials"},
		{rule("", "pods", "list"), "see that gateways ended before their devices are deleted"},
		{rule("coordination.k8s.io", "leases", "create"), "leader election; create cannot be restricted to a name"},
		{only(rule("coordination.k8s.io", "leases", "get", "update"), LeaseName), "leader election"},
	}
}

func rule(group, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}

func only(r rbacv1.PolicyRule, name string) rbacv1.PolicyRule {
	r.ResourceNames = []string{name}
	return r
}
