package render

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// ContainerName is that of a gateway pod's only container.
const ContainerName = "gateway"

// Where things are in a gateway's container. The folders of the ConfigMap and of the Secret are
// mounted whole: a file mounted alone is never updated.
const (
	configFolder  = "/etc/tailgate/config"
	authKeyFolder = "/etc/tailgate/auth"
	stateFolder   = "/var/lib/tailgate"
	socketFolder  = "/run/tailgate"
	tunDevice     = "/dev/net/tun"
)

// Where a group's gateway keeps its state and its sockets on the node, each in a folder with
// the name of [v1alpha1.GroupObjectName].
const (
	hostState   = "/var/lib/tailgate/gateways/"
	hostSockets = ident.GatewayFolders + "/"
)

// port is where the gateway serves probes and metrics.
const port = 9002

// gracePeriod is how long, in seconds, a gateway may take to end. It leaves TUN, routes and
// connections as they are, so there is little to do.
const gracePeriod = 5

// history is how many old pod templates Kubernetes keeps: one object each, in each group.
const history = 2

// DaemonSet returns what runs a group's gateways: one pod a node, on the nodes that carry
// [v1alpha1.NodeLabel], or on all Linux nodes. Its pod template depends on o, on the group's name and on
// spec.gateway only.
func DaemonSet(g *v1alpha1.EgressGroup, o Options) *appsv1ac.DaemonSetApplyConfiguration {
	return appsv1ac.DaemonSet(v1alpha1.GroupObjectName(g.Name), o.Namespace).
		WithLabels(Labels(g.Name)).
		WithAnnotations(annotations(g)).
		WithOwnerReferences(owner(g)).
		WithSpec(appsv1ac.DaemonSetSpec().
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(PodLabels(g.Name))).
			WithRevisionHistoryLimit(history).
			WithUpdateStrategy(appsv1ac.DaemonSetUpdateStrategy().
				WithType(appsv1.RollingUpdateDaemonSetStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDaemonSet().
					// One node at a time loses its gateway; and never two gateways on a node, because
					// they would share one identity.
					WithMaxUnavailable(intstr.FromInt32(1)).
					WithMaxSurge(intstr.FromInt32(0)))).
			WithTemplate(corev1ac.PodTemplateSpec().
				WithLabels(Labels(g.Name)).
				WithAnnotations(annotations(g)).
				WithSpec(podSpec(g, o))))
}

func podSpec(g *v1alpha1.EgressGroup, o Options) *corev1ac.PodSpecApplyConfiguration {
	name := v1alpha1.GroupObjectName(g.Name)
	spec := corev1ac.PodSpec().
		WithServiceAccountName(name).
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithNodeSelector(nodeSelector(g)).
		// Members can be on any node, whatever its taints.
		WithTolerations(corev1ac.Toleration().WithOperator(corev1.TolerationOpExists)).
		WithTerminationGracePeriodSeconds(gracePeriod).
		WithDNSPolicy(corev1.DNSClusterFirst). // names that the tailnet says nothing of go to the cluster's resolver
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(container(g, o)).
		WithVolumes(volumes(name)...)
	if o.PriorityClass != "" {
		spec.WithPriorityClassName(o.PriorityClass)
	}
	for _, s := range o.PullSecrets {
		if s != "" {
			spec.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(s))
		}
	}
	return spec
}

func nodeSelector(g *v1alpha1.EgressGroup) map[string]string {
	s := map[string]string{corev1.LabelOSStable: "linux"}
	if g.Spec.Gateway == nil || g.Spec.Gateway.Nodes != v1alpha1.GatewayNodesAll {
		s[v1alpha1.NodeLabel(g.Name)] = ""
	}
	return s
}

func container(g *v1alpha1.EgressGroup, o Options) *corev1ac.ContainerApplyConfiguration {
	const node = "NODE_NAME"
	env := corev1ac.EnvVar
	c := corev1ac.Container().
		WithName(ContainerName).
		WithImage(o.Image).
		WithEnv(
			env().WithName("TAILGATE_CONFIG").WithValue(configFolder+"/"+ConfigKey),
			// With its default, since a reference to a field is one value: whoever applies it owns all of it.
			env().WithName(node).WithValueFrom(corev1ac.EnvVarSource().
				WithFieldRef(corev1ac.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath("spec.nodeName"))),
			// The gateway makes a DNS label of it.
			env().WithName("TAILGATE_HOSTNAME").WithValue(g.Name+"-$("+node+")"),
		).
		WithPorts(corev1ac.ContainerPort().WithName("metrics").WithContainerPort(port).WithProtocol(corev1.ProtocolTCP)).
		// Readiness is what status and members wait for, so it is asked often; it costs next to nothing.
		WithReadinessProbe(probe("/readyz").WithPeriodSeconds(2).WithFailureThreshold(2)).
		// A restart mends little, so only a gateway that is stuck for half a minute gets one.
		WithLivenessProbe(probe("/healthz").WithPeriodSeconds(10).WithFailureThreshold(3)).
		WithResources(resources(g)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithRunAsUser(0). // opens the TUN and owns its folders on the node
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL").WithAdd("NET_ADMIN"))).
		WithVolumeMounts(mounts()...)
	if o.PullPolicy != "" {
		c.WithImagePullPolicy(o.PullPolicy)
	}
	return c
}

func probe(path string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("metrics")).WithScheme(corev1.URISchemeHTTP)).
		WithTimeoutSeconds(2)
}

// resources returns what the group asks for, or the defaults that the API documents.
func resources(g *v1alpha1.EgressGroup) *corev1ac.ResourceRequirementsApplyConfiguration {
	want := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("20m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
	}
	if g.Spec.Gateway != nil && g.Spec.Gateway.Resources != nil {
		want = *g.Spec.Gateway.Resources.DeepCopy() // the group is a cache's
	}
	r := corev1ac.ResourceRequirements()
	if len(want.Requests) > 0 {
		r.WithRequests(want.Requests)
	}
	if len(want.Limits) > 0 {
		r.WithLimits(want.Limits)
	}
	return r // admission refuses claims: the pod has none to refer to
}

func volumes(name string) []*corev1ac.VolumeApplyConfiguration {
	host := func(volume, path string, kind corev1.HostPathType) *corev1ac.VolumeApplyConfiguration {
		return corev1ac.Volume().WithName(volume).
			WithHostPath(corev1ac.HostPathVolumeSource().WithPath(path).WithType(kind))
	}
	return []*corev1ac.VolumeApplyConfiguration{
		corev1ac.Volume().WithName("config").WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(name)),
		// Optional: a gateway that is logged in needs no key, so it can start while there is none.
		corev1ac.Volume().WithName("auth").WithSecret(corev1ac.SecretVolumeSource().
			WithSecretName(name).WithOptional(true).WithDefaultMode(0o400)),
		host("state", hostState+name, corev1.HostPathDirectoryOrCreate),
		host("sockets", hostSockets+name, corev1.HostPathDirectoryOrCreate),
		host("tun", tunDevice, corev1.HostPathCharDev),
	}
}

func mounts() []*corev1ac.VolumeMountApplyConfiguration {
	mount := func(volume, path string) *corev1ac.VolumeMountApplyConfiguration {
		return corev1ac.VolumeMount().WithName(volume).WithMountPath(path)
	}
	return []*corev1ac.VolumeMountApplyConfiguration{
		mount("config", configFolder).WithReadOnly(true),
		mount("auth", authKeyFolder).WithReadOnly(true),
		mount("state", stateFolder),
		mount("sockets", socketFolder),
		mount("tun", tunDevice),
	}
}
