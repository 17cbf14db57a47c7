// Package deploy holds what installs tailgate: the Helm chart, the manifests rendered from it, the
// CustomResourceDefinitions, examples, Dockerfiles, and in its folders the programs that make the container images and
// what is generated here. README.md says how to install.
//
// It promises that nothing is written twice: the chart's CRDs are those of deploy/crds, its roles those that
// the code of operator and agent lists, its images those of deploy/images; tests fail when one of them differs.
package deploy

// The CRDs come first, because the chart has copies of them.
//go:generate go generate ../operator/api/v1alpha1
//go:generate go run ./generate
