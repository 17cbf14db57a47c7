// Package helm runs Helm, built from its module, for what generates the manifests and for tests.
//
// It promises that Helm is of the version that test/tools/helm pins, and sees no configuration, plug-ins
// or cluster of the user's. It must never ship.
package helm
