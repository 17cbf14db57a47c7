// Command kind makes and ends the kind cluster of package kind.
//
// It promises to change nothing when the cluster is as asked for already.
package main
