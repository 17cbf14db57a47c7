package render

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Options are what all groups of an operator have in common.
type Options struct {
	// Namespace is the one that the objects are made in, tailgate's own. Needed.
	Namespace string
	// Image is the gateway's. Needed.
	Image string
	// PullPolicy is the image's; "": Kubernetes' default for its tag.
	PullPolicy corev1.PullPolicy
	// PullSecrets are names of Secrets in Namespace to pull the image with; empty ones are left out.
	PullSecrets []string
	// LoginServer is the URL of the tailnet's control plane; "": Tailscale's.
	LoginServer string
	// PriorityClass is that of the gateway pods; "": the cluster's default.
	PriorityClass string
}

// Keys of the ConfigMap and of the Secret.
const (
	// ConfigKey holds the configuration file.
	ConfigKey = "config.json"
	// AuthKeyKey holds the auth key.
	AuthKeyKey = "authkey"
)

// AnnotationGroup is on every object made for a group; its value is the group's whole name, which
// [v1alpha1.LabelGroup] may have to shorten.
const AnnotationGroup = v1alpha1.AnnotationGroup

// The recommended labels (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/).
const (
	labelName      = v1alpha1.LabelName
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelPartOf    = "app.kubernetes.io/part-of"
)

// Labels returns the labels of every object made for the group of that name, its pods included.
func Labels(group string) map[string]string {
	l := PodLabels(group)
	l[labelManagedBy], l[labelPartOf] = "tailgate-operator", "tailgate"
	return l
}

// PodLabels returns the labels by which the DaemonSet of the group of that name, and who looks for its
// gateways, selects pods. They never change: a DaemonSet's selector cannot.
func PodLabels(group string) map[string]string {
	return map[string]string{v1alpha1.LabelGroup: v1alpha1.GroupKey(group), labelName: v1alpha1.GatewayPodName}
}

// Tags returns the tailnet tags of a group's gateways, the default written out; sorted, each once.
func Tags(g *v1alpha1.EgressGroup) []string {
	if len(g.Spec.Tags) == 0 {
		return []string{v1alpha1.DefaultTag(g.Name)}
	}
	return slices.Compact(slices.Sorted(slices.Values(g.Spec.Tags)))
}

// ServiceAccount returns the account of a group's gateway pods, which has no rights and no token.
func ServiceAccount(g *v1alpha1.EgressGroup, o Options) *corev1ac.ServiceAccountApplyConfiguration {
	return corev1ac.ServiceAccount(v1alpha1.GroupObjectName(g.Name), o.Namespace).
		WithLabels(Labels(g.Name)).
		WithAnnotations(annotations(g)).
		WithOwnerReferences(owner(g)).
		WithAutomountServiceAccountToken(false)
}

// ConfigMap returns the ConfigMap that holds a group's configuration file, and the file's hash, as of [Config].
func ConfigMap(g *v1alpha1.EgressGroup, o Options) (cm *corev1ac.ConfigMapApplyConfiguration, hash string, err error) {
	data, hash, err := Config(g, o)
	if err != nil {
		return nil, "", err
	}
	cm = corev1ac.ConfigMap(v1alpha1.GroupObjectName(g.Name), o.Namespace).
		WithLabels(Labels(g.Name)).
		WithAnnotations(annotations(g)).
		WithOwnerReferences(owner(g)).
		WithData(map[string]string{ConfigKey: string(data)})
	return cm, hash, nil
}

// annotations returns those of every object made for a group, and the ones given.
func annotations(g *v1alpha1.EgressGroup, more ...map[string]string) map[string]string {
	a := map[string]string{AnnotationGroup: g.Name}
	for _, m := range more {
		maps.Copy(a, m)
	}
	return a
}

// owner makes the group the controller of an object, so that the garbage collector deletes it
// with the group.
func owner(g *v1alpha1.EgressGroup) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("EgressGroup").
		WithName(g.Name).
		WithUID(g.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}
