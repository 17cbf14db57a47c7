// Package permission is how a binary lists what it asks of Kubernetes' API: rules, each with the reason for it. The chart's
// roles are made of these lists, and tests hold what a binary does against them.
//
// It promises that a rule is of one API group and one resource, so that its reason is that of all it grants. It
// must never grow wildcards.
package permission
