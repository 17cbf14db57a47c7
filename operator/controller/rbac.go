package controller

import (
	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// LeaseName is that of the Lease by which operators elect a leader.
const LeaseName = "tailgate-operator"

// ClusterPermissions are what the operator needs in the whole cluster. Tests run it with these and those of
// [NamespacePermissions] only, and fail when one of them is never used.
func ClusterPermissions() []permission.Permission {
	group := v1alpha1.GroupVersion.Group
	return []permission.Permission{
		permission.New("watch groups; their finalizer", group, "egressgroups", "get", "list", "watch", "patch"),
		permission.New("report on groups", group, "egressgroups/status", "patch"),
		permission.New("own objects whose deletion a group waits for (admission OwnerReferencesPermissionEnforcement)", group, "egressgroups/finalizers", "update"),
		permission.New("label the nodes that gateways run on, by metadata only", "", "nodes", "get", "list", "watch", "patch"),
		permission.New("its UID tells the cluster from others in the same tailnet", "", "namespaces", "get").Only("kube-system"),
		permission.New("events, which those about groups and nodes have in the namespace default", "events.k8s.io", "events", "create", "patch"),
	}
}

// NamespacePermissions are what the operator needs in its own namespace.
func NamespacePermissions() []permission.Permission {
	return []permission.Permission{
		permission.New("follow gateways; their finalizer; delete them with their group or node", v1alpha1.GroupVersion.Group, "egressgateways", "get", "list", "watch", "patch", "delete"),
		permission.New("run gateways (create is part of server-side apply)", "apps", "daemonsets", "get", "list", "watch", "create", "patch", "delete"),
		permission.New("the gateways' configuration", "", "configmaps", "get", "list", "watch", "create", "patch", "delete"),
		permission.New("the gateways' account, which has no rights and no token", "", "serviceaccounts", "get", "list", "watch", "create", "patch", "delete"),
		permission.New("auth keys, and the tailnet's credentials", "", "secrets", "get", "list", "watch", "create", "patch", "delete"),
		permission.New("see that gateways ended before their devices are deleted", "", "pods", "list"),
		permission.New("leader election; create cannot be restricted to a name", "coordination.k8s.io", "leases", "create"),
		permission.New("leader election", "coordination.k8s.io", "leases", "get", "update").Only(LeaseName),
	}
}
