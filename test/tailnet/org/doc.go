// Package org makes a tailnet in a Tailscale organization, for a run of tests, by the Tailnets API
// (https://tailscale.com/docs/features/tailnets-api), and deletes it.
//
// It promises that a tailnet has the name of what it is for, so that the next run for the same deletes one that a killed run
// left; and that secrets are in no argument of a program, in no file, and in nothing that it says. It must never touch a
// tailnet of another name.
package org
