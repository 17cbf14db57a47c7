// Package membership decides which group each pod of one node belongs to, and says why. It is a pure
// model: namespaces, pods and groups come in as plain values, one at a time and in any order, and
// what changes by each comes out.
//
// It promises that what it says depends on what it was told last of each object, never on the order
// in which it was told; that a pod belongs to at most one group, the oldest that selects it; that
// pods on the host network, finished pods and tailgate's own never belong to one; and that nothing is
// decided before it is known: until the groups and the pod's namespace are there, a pod is
// [Undecided], which is never a reason to make it leave.
//
// It must never do I/O, and never remember what a pod was: an agent that starts again decides
// the same.
package membership
