// Command operator measures tailgate's operator against a Kubernetes API server and a tailnet API, and prints each
// figure beside its goal.
//
// It promises that the operator is the one that ships: the same static binary, a process of its own, with
// the permissions of its service account and no others. Kubernetes is a real etcd and kube-apiserver, and the tailnet's API
// is the hermetic one, on this machine. What the operator does is told by others than itself where
// that is possible: its requests by the API server's audit log, those to the tailnet by a proxy in between, its memory
// and CPU time by the kernel. Its own metrics are read to see that it is at rest, and to check the audit log's count.
//
// There is no controller manager, kubelet or agent. This program plays as much of them as the operator sees: nodes,
// pods (which the operator must not see), EgressGateways with a status, DaemonSets whose pods are ready.
//
// # The method
//
// Everything but the operator's own objects is there before the operator starts. Then, in this order:
//
//   - first: from the operator's start until the status of every group says that its key is minted and its
//     configuration is written, and until nothing is left to do.
//   - ready: DaemonSets and agents report that gateways run; until every group's status says so.
//   - steady: nothing changes; requests in that time, those of the leader's Lease apart.
//   - edits: one group's spec changes, from before the request until a watch shows the changed ConfigMap; many groups, one
//     after the other. Then all groups at once.
//   - restart: SIGTERM, and the same binary again with all in place: until every watch has told what
//     there is, until each group was looked at, and what was written.
//
// At rest is an operator whose queues are empty and whose counts have stood still for a while; that while is not part of any
// duration. VmRSS is read then, and VmHWM, the most that it ever was. A write is any request that is not get, list or
// watch.
//
// The operator's calls to the tailnet's API are limited to a rate by the operator itself, since Tailscale limits
// them: the time of the first reconcile has a floor of one key for each group at that rate.
//
// With --profile the binary is one that writes heap profiles on demand; its memory is not the product's then. Goals decide
// nothing: the exit status says whether all could be measured.
package main
