// Command deploy brings this tree's tailgate to a cluster that is there: the kind cluster of kind:up, a lab, or any whose
// kubeconfig is given. It is what "go tool task deploy" runs.
//
// It promises to do what deploy/README.md tells people to do, with images built from this tree: to make the namespace and
// the Secret, and to install the chart or upgrade it, as often as it is run. Where the environment has no credentials of a real
// tailnet it deploys a hermetic one beside it (package test/tailnet), whose identity is kept in a Secret, so that a new pod of it is
// the same tailnet to those who know it.
//
// It must never follow the user's current kubectl context, nor print a secret.
package main
