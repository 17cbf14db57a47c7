// Package e2e tests tailgate as users run it: installed by its chart on a cluster of package lab, or of package kind, with a
// tailnet beside it, hermetic or of a Tailscale organization. The tests have the build tag e2e, share one cluster, and run in the
// order of their files:
//
//	go tool task e2e -- dual
//	go tool task e2e -- dual --cluster=kind
//	TS_ORG_OAUTH_CLIENT_ID=… TS_ORG_OAUTH_CLIENT_SECRET=… go tool task e2e -- dual --cluster=kind
//
// The organization is Tailscale's, or one at $TS_API_URL with nodes logging in at $TS_LOGIN_SERVER, such as "tailnet
// organization" runs. What is tested with it is in real_test.go.
//
// It promises that each test waits for what it says happens, with a limit, and leaves the cluster as it found it. Flags of the
// test binary (-args) choose the IP families, the plugin that connects pods, and the lab's name, by which two runs keep apart.
//
// Members are pods that do nothing but serve; what is checked of one is done in its network namespace, on sockets that
// the kernel cannot tell from the pod's own, because a program started there for each try would take longer than the try. Where the
// pod's own view matters, such as its resolv.conf, a tool is run in it.
package e2e
