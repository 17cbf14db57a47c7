// Package install puts the CNI plugin into a node and takes it out again: the binary, and its entry in the network
// configuration that the container runtime uses.
//
// # Which configuration
//
// containerd (go-cni) and CRI-O (ocicni) take, of the folder's files that end in .conf, .conflist or .json, the first by
// name; a .conflist is a list, the others are a single plugin. containerd then stops at a file that it cannot read,
// where CRI-O goes on to the next. As the two disagree, a first file that cannot be understood is
// reported, and nothing is done. Multus as the first file stands before the configuration that matters, which
// is the list in its delegates, or the file that its clusterNetwork names.
//
// # What it promises
//
// A file is changed by inserting bytes, and changed back by removing them, so all that others wrote stays as they
// wrote it, and taking the entry out gives the very bytes from before. A lone .conf stays untouched: a list
// made of it, with a name that sorts before it, takes its place. Files change in one step, in their folder (which is also what
// makes containerd look), with mode and owner kept; what somebody wrote in the same moment is not lost. The entry is
// put back when others rewrite the file, and is in no file while the binary is in no folder.
//
// It must never touch a file that it does not understand, one that is a symbolic link (its target may be out of
// sight, or another's), or an entry that a person put in; never leave a half-written file where a runtime
// may look; never guess.
package install
