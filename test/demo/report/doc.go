// Package report is what the demonstrations have in common: they print what they prove, a line a check, and end with
// "N passed, M failed", of which the exit status says the same.
//
// It promises that a check which took part is printed and counted once, whatever came of it.
package report
