// Command netns shows on one machine what tailgate's gateway promises. It makes a tailnet, a gateway, members and a
// neighbour in network namespaces (package rig), checks every path that must work and every one that must
// not, and prints a line a check. The last line is "N passed, M failed", and the exit status says the same.
//
// A check passes by packets that arrived, or by packets that a capture, which is shown to work, did not see. It must
// never touch the network of the machine that it runs on.
package main
