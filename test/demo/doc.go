// Command demo shows tailgate at work, on one machine: a Kubernetes cluster with a tailnet beside it and tailgate
// installed by its own chart (package stage), the groups of deploy/examples as they stand, and members that are scaled up
// and down. It prints a line for all that it proves. The last line is "N passed, M failed", and the exit status says the same.
//
// A check passes by what pods, the tailnet and the cluster say, never by what tailgate says of itself alone. It
// must never patch what it installed, nor touch the network of the machine that it runs on.
//
// The gateway alone, with every path that must work and every one that must not, is the demonstration in the
// folder netns.
package main
