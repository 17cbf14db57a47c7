//go:build linux

// Command labtool is what runs in the lab's containers: the pause container, and a set of small
// network tools, each a command or, by a link of that name, a program of its own.
//
// It promises to exit with 0 only when it got what it asked for. It must never need anything of an
// image but itself.
package main
