//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// podNamespace has all pods.
const podNamespace = "bench"

// writers is how many requests of this program are under way at a time.
const writers = 16

// each calls f for every number below n, several at a time, until one fails.
func each(ctx context.Context, n int, f func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(ctx, i)
		})
	}
	return group.Wait()
}

// populate makes nodes, pods, groups and their gateways.
func (b *bench) populate(ctx context.Context) error {
	for _, kind := range []struct {
		name string
		n    int
		make func(context.Context, int) error
	}{
		{"nodes", b.s.nodes, func(ctx context.Context, i int) error { return b.server.Client.Create(ctx, newNode(i)) }},
		{"pods", b.s.pods, func(ctx context.Context, i int) error { return b.server.Client.Create(ctx, newPod(i, b.s.nodes)) }},
		{"groups", b.s.groups, func(ctx context.Context, i int) error { return b.server.Client.Create(ctx, newGroup(i)) }},
		{"gateways", b.s.groups * b.s.gateways, b.makeGateway},
	} {
		began := time.Now()
		if err := each(ctx, kind.n, kind.make); err != nil {
			return fmt.Errorf("make %s: %w", kind.name, err)
		}
		fmt.Fprintf(b.out, "made %d %s in %v\n", kind.n, kind.name, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func nodeName(i int) string {
	return fmt.Sprintf("ip-10-%d-%d-%d.region-1.compute.internal", i/65536, i/256%256, i%256)
}
func groupName(i int) string { return fmt.Sprintf("team-%04d-egress", i) }

func defaultTag(i int) string { return v1alpha1.DefaultTag(groupName(i)) }

// newNode has labels and annotations as nodes of a cloud have: the operator's watch brings those along.
func newNode(i int) *corev1.Node {
	name, zone := nodeName(i), fmt.Sprintf("region-1%c", 'a'+i%3)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
				corev1.LabelTopologyZone: zone, corev1.LabelTopologyRegion: "region-1", corev1.LabelInstanceTypeStable: "m5.4xlarge",
				"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", "example.com/pool": fmt.Sprintf("pool-%d", i%8),
				"topology.example.com/zone": zone,
			},
			Annotations: map[string]string{
				"csi.volume.kubernetes.io/nodeid":                        `{"csi.example.com":"i-0123456789abcdef0"}`,
				"node.alpha.kubernetes.io/ttl":                           "0",
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: corev1.NodeSpec{ProviderID: "example:///" + zone + "/" + name},
	}
}

func newPod(i, nodes int) *corev1.Pod {
	app := fmt.Sprintf("app-%03d", i%200)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: podNamespace, Name: fmt.Sprintf("%s-7d4b9c6f5-%05d", app, i),
			Labels: map[string]string{"app": app, "pod-template-hash": "7d4b9c6f5"},
		},
		Spec: corev1.PodSpec{
			NodeName: nodeName(i % nodes), AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.example.com/" + app + ":v1.2.3",
				Env: []corev1.EnvVar{{Name: "MODE", Value: "production"}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				},
			}},
		},
	}
}

// newGroup makes every fourth group one with routes.
func newGroup(i int) *v1alpha1.EgressGroup {
	g := &v1alpha1.EgressGroup{
		ObjectMeta: metav1.ObjectMeta{Name: groupName(i), Labels: map[string]string{"example.com/team": fmt.Sprintf("team-%04d", i)}},
		Spec: v1alpha1.EgressGroupSpec{Selector: v1alpha1.Selector{
			NamespaceSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"kubernetes.io/metadata.name": podNamespace}},
			PodSelector:       &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(fmt.Sprintf("app-%03d", i))}},
		}},
	}
	if i%4 == 0 {
		g.Spec.Mode, g.Spec.Routes = v1alpha1.ModeSubnet, []string{"10.0.0.0/8", "fd00:1::/48"}
	}
	return g
}

// newGateway is the n-th gateway of all, per for a group, as its agent makes it.
func newGateway(n, per, nodes int) *v1alpha1.EgressGateway {
	group, node := groupName(n/per), nodeName(n%nodes)
	return &v1alpha1.EgressGateway{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: v1alpha1.GatewayName(group, node), Finalizers: []string{v1alpha1.FinalizerDevice},
		},
		Spec: v1alpha1.EgressGatewaySpec{Group: group, Node: node},
	}
}

func (b *bench) makeGateway(ctx context.Context, n int) error {
	gw := newGateway(n, b.s.gateways, b.s.nodes)
	if err := b.server.Client.Create(ctx, gw); err != nil {
		return err
	}
	before := gw.DeepCopy()
	gw.Status = gatewayStatus(n, n/b.s.gateways, "")
	return b.server.Client.Status().Patch(ctx, gw, client.MergeFrom(before))
}

// gatewayStatus is what an agent reports of a gateway that runs, or, before there is a configuration, starts.
func gatewayStatus(n, group int, config string) v1alpha1.EgressGatewayStatus {
	s := v1alpha1.EgressGatewayStatus{
		BackendState: "Starting", DeviceID: fmt.Sprintf("n%010dCNTRL", n), Tags: []string{defaultTag(group)}, Members: 10,
		Addresses: []string{fmt.Sprintf("100.%d.%d.%d", 64+n>>16, n>>8&255, n&255), fmt.Sprintf("fd7a:115c:a1e0::%x:%x", n>>16&0xffff, n&0xffff)},
		Version:   "v0.1.0", ConfigHash: config,
	}
	ready, reason := metav1.ConditionFalse, "Starting"
	if config != "" {
		s.BackendState, ready, reason = "Running", metav1.ConditionTrue, "Running"
	}
	now := metav1.Now()
	for kind, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionReady: ready, v1alpha1.ConditionConfigApplied: ready,
		v1alpha1.ConditionAuthKeyAccepted: metav1.ConditionTrue, v1alpha1.ConditionMembersConflicting: metav1.ConditionFalse,
	} {
		s.Conditions = append(s.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "as the gateway's snapshot says", LastTransitionTime: now})
	}
	return s
}

// reportGateways plays the DaemonSet controller, the kubelets and the agents: all gateways of a group run.
func (b *bench) reportGateways(ctx context.Context) error {
	hashes := b.seen.hashes()
	return each(ctx, b.s.groups, func(ctx context.Context, i int) error {
		group := groupName(i)
		ds := &appsv1.DaemonSet{}
		if err := b.server.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: v1alpha1.GroupObjectName(group)}, ds); err != nil {
			return fmt.Errorf("report the gateways of %s: %w", group, err)
		}
		n := int32(b.s.gateways)
		before := ds.DeepCopy()
		ds.Status = appsv1.DaemonSetStatus{
			ObservedGeneration: ds.Generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n,
			UpdatedNumberScheduled: n, NumberReady: n, NumberAvailable: n,
		}
		if err := b.server.Client.Status().Patch(ctx, ds, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("report the gateways of %s: %w", group, err)
		}
		for k := range b.s.gateways {
			number := i*b.s.gateways + k
			gw := newGateway(number, b.s.gateways, b.s.nodes)
			before := gw.DeepCopy()
			gw.Status = gatewayStatus(number, i, hashes[group])
			if err := b.server.Client.Status().Patch(ctx, gw, client.MergeFrom(before)); err != nil {
				return fmt.Errorf("report a gateway of %s: %w", group, err)
			}
		}
		return nil
	})
}
