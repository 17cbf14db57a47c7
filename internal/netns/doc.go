// Package netns opens, identifies and enters network namespaces.
//
// It promises that no goroutine but the one that runs the function given to
// [Handle.Do] is ever in another namespace than the process, that a [Handle]
// always refers to a network namespace and to nothing else, and that file
// descriptors do not leak into programs that the process starts.
//
// It never remembers a namespace by path alone: a path is reused, an [ID] is
// not while a handle on it is open.
package netns
