// Command agent measures what tailgate does on a node: on a cluster of package stage with one node, a hermetic tailnet
// beside it, and tailgate installed by its chart. It prints each figure with its goal, if there is one.
//
// It promises that what is measured is what ships: images as "go tool task images" makes them, pods that a kubelet and
// containerd run, the CNI chain as containerd calls it. It counts what packets, processes and the kernel did, and asks the agent only
// whether it is done. It must never touch the machine's own network, and leave nothing behind.
//
// # What a member's start costs
//
//   - add: the CNI chain in the node's configuration is called with libcni, as containerd does, in all of the node's
//     namespaces, each time for a new network namespace: with our plugin, which the agent answers, and right after that, or
//     before, without it. The pods that are named are real and known to the agent, but for a volume that never comes the
//     kubelet makes no sandbox of them. Duplicate address detection is off in those namespaces, for the ptp plugin waits for it, a random
//     time of up to two seconds, with tailgate and without. After each ADD of a member its link must be there, with its gateway up. The figure is the
//     median of the differences of the pairs; every second pair begins with the other one.
//   - label: a running pod pings the peer a thousand times a second, each ping a flow of its own, when it is labelled. The time is
//     from the answer to the patch until the first reply.
//
// # Against a sidecar
//
// throughput: one TCP stream between a pod and the peer, by tailgate in one pod, and in another pod of the same kind on the
// same node by an official tailscaled (test/tools/tailscale) in its network namespace, with a kernel TUN, as a sidecar has. Processes
// are in the control groups of the containers that they play, and the sidecar's container asks for the CPU that a gateway does: on a
// machine whose CPUs are all in use, shares decide who gets how much. Both move the
// same number of bytes in all rounds, one right after the other; every second round begins with the other one. CPU a GB is of the process
// that carries the traffic, gateway or tailscaled (utime and stime in /proc/PID/stat), and of the whole machine (all but
// idle, iowait and steal in /proc/stat), with both ends and the peer's engine in it. Figures are medians of the rounds' ratios, ours by
// theirs.
//
// # Many members
//
// members: 250 pods run on the node with the label that their group wants, in a namespace without the one that it wants, too.
//
//   - storm: the namespace is labelled, which makes members of all in one moment. The time is from the patch being sent until the
//     kernel has told of the last link in the gateway's namespace; then the peer must answer each of them. They leave and join again.
//   - rest: the agent's VmRSS after a time without change, and its CPU time then.
//   - restart: the agent is ended, first with SIGKILL, then by deleting its pod, which is what an upgrade does. Some members ping the
//     peer 100 times a second all the while; every ping must come back. The time is from the start of the new process to
//     the first 200 of /readyz, which is asked every 5 ms, and until its metrics say that all members are joined; how long
//     Kubernetes takes to start it is told apart. Interface indices at both ends of all links must be the same as before.
//
// The kubelet looks at each pod once a minute, as is its default, not once a second as in other labs.
// What disturbs figures is the rest of the machine: how busy it was before the start is printed with the result. Goals decide
// nothing: the exit status says whether all could be measured.
package main
