// Package lab runs real Kubernetes clusters on one machine, without Docker and without a
// registry: etcd, API server, controllers, scheduler, and nodes that each have a containerd,
// kubelet and kube-proxy in namespaces of their own.
//
// It promises that a lab needs nothing from the network once its binaries are built and its
// modules downloaded, that it changes nothing in the machine's own namespaces but for one
// folder and one control group a lab, and that everything of a lab ends when it is told
// to, and when the process that was starting it is killed: all processes of a lab are in one PID
// namespace, whose process 1 ends with its supervisor, and the kernel ends the rest.
// [Down] removes what is left when the supervisor was killed, too.
//
// A lab is for tests: etcd does not sync, the control plane has one of each, and whoever is root
// on the machine is root in it. It must never be reachable from outside, and nothing of it is.
package lab
