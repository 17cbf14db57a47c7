// Package world makes a small internet out of network namespaces: a core router
// with an underlay bridge, hosts on it, and hosts behind other hosts.
//
// It promises that nothing it makes outlives [World.Close] or, for processes, this
// process: namespaces have the process ID in their names and are swept
// by the next [New] with the same prefix when their owner is gone. It never touches the
// namespace it is called in. It needs root.
package world
