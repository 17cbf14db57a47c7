//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// The label that the groups of deploy/examples select, and the one by which the demo finds its pods.
const (
	egress = "tailgate.dev/egress"
	app    = "app"
)

// pod is a pod, and its network namespace to send from.
type pod struct {
	corev1.Pod
	*world.Host
}

// enter opens the pod's network namespace, until [demo.leavePods].
func (d *demo) enter(ctx context.Context, p corev1.Pod) (*pod, error) {
	ns, err := d.Lab.PodNetNS(ctx, &p)
	if err != nil {
		return nil, err
	}
	d.open = append(d.open, ns)
	h := d.Rig.World.Adopt(p.Name, ns)
	for _, ip := range p.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return nil, fmt.Errorf("address of pod %s: %w", p.Name, err)
		}
		if a.Is4() {
			h.V4 = a
		} else {
			h.V6 = a
		}
	}
	return &pod{Pod: p, Host: h}, nil
}

func (d *demo) leavePods() {
	for _, ns := range d.open {
		_ = ns.Close()
	}
	d.open = nil
}

// exec runs a tool in the pod as a user does, and returns what it prints.
func (d *demo) exec(ctx context.Context, p *pod, tool ...string) (string, error) {
	out, err := d.Kubectl(ctx, append([]string{"exec", "-n", p.Namespace, p.Pod.Name, "--"}, tool...)...)
	return strings.TrimSpace(out), err
}

// onNode runs a program of a node.
func (d *demo) onNode(ctx context.Context, node string, args ...string) error {
	n, err := d.Lab.Node(node)
	if err != nil {
		return err
	}
	// The node has paths of its own, so a shell there looks the program up.
	var out strings.Builder
	c := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args...)...)
	c.Dir, c.Stdout, c.Stderr = "/", &out, &out
	if err := n.Run(ctx, c); err != nil {
		return fmt.Errorf("on %s, %s: %w: %s", node, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// podSpec is one container of the lab's image.
func podSpec(args ...string) corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(1)),
		Containers: []corev1.Container{{
			Name: app, Image: lab.TestImage, ImagePullPolicy: corev1.PullNever, Args: args,
		}},
	}
}

// deployment is one with the label that groups select.
func deployment(namespace, name string, replicas int32, spec corev1.PodSpec) *appsv1.Deployment {
	of := map[string]string{app: name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: of},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{app: name, egress: "true"}}, Spec: spec,
			},
		},
	}
}

// membersOfPayments ping the peer from their first moment on, one after the other on all nodes.
func (d *demo) membersOfPayments(replicas int32, peer netip.Addr) *appsv1.Deployment {
	spec := podSpec("ping", "-n", "1000000", "-every", "2s", "-timeout", "5s", peer.String())
	spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{app: payments}},
	}}
	return deployment(payments, payments, replicas, spec)
}

// membersOfPeers are on n1 only.
func membersOfPeers() *appsv1.Deployment {
	spec := podSpec("serve")
	spec.NodeSelector = map[string]string{corev1.LabelHostname: n1}
	return deployment("default", peers, 2, spec)
}

// pods returns the pods with the name in their label app, oldest first.
func (d *demo) pods(ctx context.Context, namespace, name string) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := d.Client.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{app: name}); err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return list.Items, nil
}

// awaitPods waits until there are exactly n, all ready, and returns them.
func (d *demo) awaitPods(ctx context.Context, namespace, name string, n int) (pods []corev1.Pod, err error) {
	err = until(ctx, func(ctx context.Context) (string, error) {
		if pods, err = d.pods(ctx, namespace, name); err != nil {
			return "", err
		}
		if good := count(pods, ready); good != n || len(pods) != n {
			return fmt.Sprintf("%d of %d pods are ready, and %d wanted", good, len(pods), n), nil
		}
		return "", nil
	})
	return pods, err
}

func count(pods []corev1.Pod, is func(corev1.Pod) bool) (n int) {
	for _, p := range pods {
		if is(p) {
			n++
		}
	}
	return n
}

func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func restarts(p corev1.Pod) (n int32) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// byNode says how many pods are on which node.
func byNode(pods []corev1.Pod) string {
	on := map[string]int{}
	for _, p := range pods {
		on[p.Spec.NodeName]++
	}
	return fmt.Sprintf("%d on n1, %d on n2", on[n1], on[n2])
}

// nodesOf returns the nodes that have any of the pods.
func nodesOf(pods []corev1.Pod) []string {
	var nodes []string
	for _, p := range pods {
		nodes = append(nodes, p.Spec.NodeName)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// gatewayPods returns the group's gateway pods by the name of their node.
func (d *demo) gatewayPods(ctx context.Context, group string) (map[string]corev1.Pod, error) {
	var list corev1.PodList
	err := d.Client.List(ctx, &list, client.InNamespace(stage.Namespace),
		client.MatchingLabels{v1alpha1.LabelGroup: v1alpha1.GroupKey(group)})
	if err != nil {
		return nil, err
	}
	pods := map[string]corev1.Pod{}
	for _, p := range list.Items {
		pods[p.Spec.NodeName] = p
	}
	return pods, nil
}

// awaitGateways waits until the group has ready gateways on exactly these nodes.
func (d *demo) awaitGateways(ctx context.Context, group string, nodes ...string) error {
	return until(ctx, func(ctx context.Context) (string, error) {
		pods, err := d.gatewayPods(ctx, group)
		if err != nil {
			return "", err
		}
		for _, n := range nodes {
			if p, ok := pods[n]; !ok || !ready(p) {
				return fmt.Sprintf("%s has no ready gateway on %s", group, n), nil
			}
		}
		if len(pods) != len(nodes) {
			return fmt.Sprintf("%s has %d gateways, not %d", group, len(pods), len(nodes)), nil
		}
		return "", nil
	})
}

// group returns an EgressGroup.
func (d *demo) group(ctx context.Context, name string) (*v1alpha1.EgressGroup, error) {
	g := new(v1alpha1.EgressGroup)
	return g, d.Client.Get(ctx, client.ObjectKey{Name: name}, g)
}

// awaitMembers waits until the group says that it has so many members.
func (d *demo) awaitMembers(ctx context.Context, group string, n int) error {
	return until(ctx, func(ctx context.Context) (string, error) {
		g, err := d.group(ctx, group)
		if err == nil && int(g.Status.MemberPods) != n {
			return fmt.Sprintf("%s says that it has %d members, not %d", group, g.Status.MemberPods, n), nil
		}
		return "", err
	})
}

func addr(h *world.Host, family int) netip.Addr {
	if family == 4 {
		return h.V4
	}
	return h.V6
}
