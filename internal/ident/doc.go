// Package ident holds every name, number and prefix by which tailgate knows its
// own kernel state, each with the reason for its value.
//
// It promises that whatever tailgate puts into a kernel can be told from what
// anyone else put there. It imports the standard library only, so that every
// other package can import it.
package ident
