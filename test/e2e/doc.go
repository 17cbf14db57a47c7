// Package e2e tests tailgate as users run it: installed by its chart on a cluster of package lab, with a tailnet beside
// it. The tests have the build tag e2e, share one cluster, and run in the order of their files:
//
//	go tool task e2e -- dual
//
// It promises that each test waits for what it says happens, with a limit, and leaves the cluster as it found it.
package e2e
