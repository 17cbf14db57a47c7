//go:build linux

// Package proc reads what the kernel says of a process and of the machine: CPU time, memory, and what the machine is.
// It promises exact units, and an error rather than a figure of something else. It must never ask the
// process itself.
package proc
