// Package debug serves what a node's agent says of itself over HTTP: the pages below /debug/ for a person on the node,
// and /healthz, /readyz and /metrics for the cluster.
//
// It promises to look and never to change: no page touches a namespace, a file or the API. It promises that whatever a page shows
// is text, whoever named it, and that a part which cannot be read takes nothing but itself off a page. There are
// no secrets to leave out, for the agent holds none.
//
// It must never serve /debug/ to anyone but the node: [Pages.Debug] is for a loopback listener, and [Pages.Public] for
// the pod network. Whoever comes from elsewhere, or through a proxy, gets nothing below /debug/, not even whether there is such
// a page.
//
// # Health and readiness
//
// An agent is alive when its parts answer one another. It is ready when CNI requests are served, all watches have
// synced and the plugin is installed as the mode wants it. A node whose own CNI has not written its configuration yet (install.Waiting) is not
// ready: a pod that started now would start without its tailnet, and a rollout that waits for agents should
// wait for this. Nothing is locked out by that: the agent is on the host network and needs no CNI to start.
//
// # Metrics
//
// Ours begin with tailgate_agent_. Those that are counted as things happen are [Metrics]; the others are asked for
// when somebody looks at /metrics. The labels that are not words of ours are names of groups with members or a gateway on this node, and
// such a series ends with its group. What is counted has no group for a label, because a count outlives the group: a node would keep the
// series of every group that it ever had.
package debug
