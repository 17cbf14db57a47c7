// Package stats has what the benches do with their figures: the middle, a share, pairs of two sides, and a short way to write one.
// It promises never to change what it is given, and that a figure of nothing is not a number rather than 0.
package stats
