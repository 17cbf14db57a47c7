// Package stage is tailgate where it belongs: a Kubernetes cluster, a lab's or kind's, a tailnet beside it that pods
// reach, hermetic or of a Tailscale organization, and tailgate installed from its own images by its own chart. Tests and demonstrations play on it.
//
// It promises that what users are told to do is what it does: images as `task images` makes them, Helm with
// the committed chart, the Secret of the README; and that nothing stays of it behind [Stage.Down] or this
// process, unless [Stage.Keep] was called. It must never patch what it installed.
package stage
