// Package rbac reads what rendered manifests grant: a permission is one verb on one resource, so that no rule hides a verb
// among others. It must never ship.
package rbac
