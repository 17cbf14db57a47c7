// Package attachments knows where the network namespaces of the node's pods are, from what the
// container runtime left: the cache that libcni keeps of every attachment (containerd and
// CRI-O both have it), and what CNI ADD and DEL say, which is sooner.
//
// It promises that a pod's namespace is known by identity and held open from the first sight of it, so
// that what a path leads to later is never taken for what it led to before; that of several sandboxes
// of one pod the newest that is still there is the pod's; that the node's own namespace is nobody's;
// and that a file which cannot be read or understood takes nothing away that was known before.
//
// It must never write to the cache or enter a namespace, and needs neither the runtime's socket nor the
// host's process IDs.
//
// A sandbox is there when the path that was claimed leads to its namespace: runtimes take that away
// with the sandbox, and /run does not outlive the node, while files do (a DEL that failed, a power
// cut). Of those that are there the file's modification time decides, because libcni writes the file
// once, when the sandbox gets its network, and names in it nothing that orders sandboxes. Two
// claims to one namespace are decided the same way. A namespace that has gone takes with it all that
// was claimed of its container up to then, and so does DEL what was claimed of that attachment:
// only a newer file or ADD makes it known again.
//
// In a container, mount the folder above the cache and the one of the namespaces (/var/lib/cni,
// /run/netns), the latter with mountPropagation HostToContainer.
package attachments
