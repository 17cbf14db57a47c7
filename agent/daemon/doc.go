// Package daemon is the node agent: it hears from Kubernetes, from the container runtime and from the node's
// gateways, decides who belongs where (package membership), has members stitched to gateways (package
// stitch), answers the CNI plugin, and reports.
//
// It promises that
//
//   - nothing is taken from a pod before all that could speak for it was heard once: groups, namespaces, pods,
//     the runtime's attachments, gateways;
//   - a pod that the API has forgotten keeps what keeps its traffic in for as long as its sandbox is there: one
//     that was deleted by force may still run;
//   - a member's CNI ADD is answered when it has its tailnet, or in time when only its gateway is late and what it sends cannot leave
//     another way; a pod that is no member never waits for a gateway;
//   - it writes to Kubernetes the EgressGateways of its own node and events, nothing else, and only what differs.
//
// It must never list what is not its node's, but for groups, namespaces' labels and nodes' addresses, and keep no state of its own
// on the node: an agent that starts reads all from the kernel, the runtime's cache and the API.
//
// # One lock
//
// What is heard comes by many goroutines and meets under one lock, for membership depends on all of it. Whatever holds it does no
// I/O: the engine takes what it is told at once, and what has to ask the runtime's cache waits its turn in a queue.
//
// # What an uninstall takes
//
// When its DaemonSet is deleted the agent takes the plugin out. Members of groups that are still there stay as they are, linked
// and closed: to open a pod that is to use an exit node because somebody deleted a DaemonSet would be a leak. They leave when their
// group goes, so groups are deleted first.
package daemon
