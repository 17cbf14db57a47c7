// Package v1alpha1 is tailgate's Kubernetes API: [EgressGroup], which users write, and
// [EgressGateway], in which each node's agent reports on one group's gateway.
//
// It promises that the two kinds say all that is checked of them: validation is in the
// CustomResourceDefinitions (OpenAPI and CEL, see
// https://kubernetes.io/docs/reference/using-api/cel/), made from the markers in this package
// by go generate, with messages that say what to write instead. They need Kubernetes 1.31 or newer (CEL's
// format library, selectable fields). Names of derived
// objects and the words that conditions, events and metrics share live here, too. It must
// never import anything but Kubernetes' API machinery: users import it.
//
// Every list, map and string that a rule looks at has a limit, since the API server estimates what a
// rule may cost at worst and refuses dear ones; hence [LabelSelector]. Some messages use CEL's format
// function where + would do: the estimate of + on a string without a limit is too high. Descriptions
// of fields keep to 76 columns, as kubectl explain does.
//
// +groupName=tailscale.rajsingh.info
// +kubebuilder:object:generate=true
package v1alpha1

//go:generate go tool -modfile=../../../test/tools/controller-gen/go.mod controller-gen object paths=. crd paths=. output:crd:dir=../../../deploy/crds
