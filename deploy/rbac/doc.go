// Package rbac holds what the chart grants against what the operator does: [Rules] reads the permissions out
// of rendered manifests, a [Recorder] notes a client's requests, and [Unused] and [Missing] compare the two.
//
// A test that runs the operator against a real API server uses it so:
//
//	var rec rbac.Recorder
//	config.Wrap(rec.Wrap)
//	// … everything that the operator ever does …
//	granted, err := rbac.Rules(manifests)
//	unused := rbac.Unused(granted, rec.Used())   // granted and never needed
//	missing := rbac.Missing(granted, rec.Used()) // needed and not granted
//
// It promises that requests are read as the API server reads them, by its own code, and that a permission is
// one verb on one resource, so that no rule hides an unused verb among used ones. It must never ship.
package rbac
