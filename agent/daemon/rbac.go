package daemon

import (
	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// DaemonSetName is that of the DaemonSet that runs agents, as the chart makes it.
const DaemonSetName = "tailgate-agent"

// ClusterPermissions are what an agent needs in the whole cluster. None of them is for one node only: RBAC cannot say so.
func ClusterPermissions() []permission.Permission {
	return []permission.Permission{
		permission.New("the node's pods, by field selector; one live read when the CNI plugin is sooner than the watch", "", "pods", "get", "list", "watch"),
		permission.New("labels, by metadata only; one live read for the first pod of a new namespace", "", "namespaces", "get", "list", "watch"),
		permission.New("addresses and pod CIDRs, which stay on the pod network", "", "nodes", "list", "watch"),
		permission.New("service addresses stay on the pod network", "networking.k8s.io", "servicecidrs", "list", "watch"),
		permission.New("which groups there are, and whom they select", v1alpha1.GroupVersion.Group, "egressgroups", "list", "watch"),
		permission.New("events on pods", "events.k8s.io", "events", "create", "patch"),
	}
}

// NamespacePermissions are what an agent needs in its own namespace.
func NamespacePermissions() []permission.Permission {
	group := v1alpha1.GroupVersion.Group
	return []permission.Permission{
		permission.New("one object for each gateway of the node", group, "egressgateways", "list", "watch", "create", "patch", "delete"),
		permission.New("report on gateways", group, "egressgateways/status", "patch"),
		permission.New("tell an uninstall from an upgrade when it is stopped", "apps", "daemonsets", "get", "list", "watch").Only(DaemonSetName),
	}
}
