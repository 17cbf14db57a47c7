// Package stitch keeps a node's members stitched to its gateways: desired state comes in as plain
// values, kernel state goes out, and nothing here knows Kubernetes.
//
// It promises that
//
//   - a member gets what keeps its traffic in before its link, and keeps it when the link or the gateway goes;
//   - one namespace is worked on by one goroutine at a time, a bounded number of namespaces at once, and what fails
//     is tried again, less and less often, and at once when the namespace changes;
//   - what others change is healed within a second, by the kernel's notifications and never by polling;
//   - where all is right nothing is written: an [Engine] that starts anew finds its predecessor's links and leaves them;
//   - nothing that was found is taken away before [Engine.Synced]: until then the engine cannot know who wants it;
//   - a namespace is known by its device and inode numbers and pinned by an open descriptor, so that a path that leads
//     elsewhere today is never taken for what it was. A namespace that has gone is no error.
//
// It must never touch what is not tailgate's, and never block a caller that sets something.
//
// # What is not known
//
// A gateway tells which routes it accepts, which networks beside it stay direct, and whether it answers. While it has told
// nothing (the agent has just started, or the gateway is not logged in yet), members keep the routes that they were last
// told of, or were found with: to drop one would send its traffic out by the pod's own interface. Queries for names, however,
// go back to the cluster's resolver whenever a gateway says that it is not ready, for the cluster's names
// would not resolve otherwise.
//
// # Cluster CIDRs
//
// What is inside one of the cluster's CIDRs is never steered: a route to there is left out. A route
// that covers one is steered, and the cluster's part of it stays direct by a rule in front (see package topology); 10.0.0.0/8
// would be of little use otherwise. Both are in [Report].
package stitch
