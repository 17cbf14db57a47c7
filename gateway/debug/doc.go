// Package debug serves what a gateway says of itself over HTTP: the pages below /debug/ for a person
// on the node, and /healthz, /readyz and /metrics for the cluster.
//
// It promises to look and never to change: no page touches the tailnet, the kernel or the configuration. It
// promises that no page holds an auth key, wherever one may have slipped in, nor the private part of
// any other key; and that a part which cannot be read takes nothing but itself off a page.
//
// It must never serve /debug/ to anyone but the node: [Pages.Debug] is for a loopback listener, and
// [Pages.Public] for the pod network.
//
// The pages are made with internal/page, which says why there are no templates. A test in the gateway's folder fails when
// the template engine is back.
//
// # Metrics
//
// Ours begin with tailgate_gateway_; the engine's own (tailscaled_…) follow them. All have a small and
// fixed number of series but the member_… ones: four for each member link, so at most four times
// ident.MaxSlot at one time. Their label "member" is a pod's identity: each new pod brings new series, and those of one
// that is gone end.
//
// The text format is written here and not with Prometheus's client library, which would bring its protobuf runtime
// into a binary that has no other use for it. The tests read it with Prometheus's parser.
package debug
