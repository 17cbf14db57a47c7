// Command tailnet runs a hermetic tailnet ("tailnet serve"), a peer of one ("tailnet peer") or an organization that makes
// one ("tailnet organization") without a test around it.
//
// It promises to keep secrets out of its arguments: keys come and go by file, by environment or
// on standard output. It must never be reachable by anyone untrusted: whoever reaches the
// admin address commands the tailnet.
package main
