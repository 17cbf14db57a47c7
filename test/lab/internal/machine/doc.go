// Package machine runs machines: sets of namespaces with a process 1 that builds a file system,
// reaps, and starts processes for whoever asks on a unix socket.
//
// It promises that a machine ends with everything in it when its process 1 does, which the
// kernel sees to (pid_namespaces(7)); that machines in a machine end with it; and that the
// control groups it makes can all be found below one path. It knows nothing of Kubernetes. It must never
// mount, or set a sysctl, outside the namespaces of a machine.
package machine
