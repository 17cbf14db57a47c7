//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// names returns the names of the objects in a list.
func names(ctx context.Context, list client.ObjectList, opts ...client.ListOption) ([]string, error) {
	if err := s.Client.List(ctx, list, opts...); err != nil {
		return nil, err
	}
	var all []string
	err := meta.EachListItem(list, func(o runtime.Object) error {
		a, err := meta.Accessor(o)
		if err == nil {
			all = append(all, a.GetName())
		}
		return err
	})
	return all, err
}

func ofGroup(name string) client.MatchingLabels {
	return client.MatchingLabels{v1alpha1.LabelGroup: v1alpha1.GroupKey(name)}
}

// gatewayPods returns the group's gateway pods by the name of their node.
func gatewayPods(ctx context.Context, group string) (map[string]corev1.Pod, error) {
	var list corev1.PodList
	if err := s.Client.List(ctx, &list, inNamespace, ofGroup(group)); err != nil {
		return nil, err
	}
	pods := make(map[string]corev1.Pod)
	for _, p := range list.Items {
		pods[p.Spec.NodeName] = p
	}
	return pods, nil
}

func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// awaitGateways waits until the group has ready gateways on exactly these nodes.
func awaitGateways(t *testing.T, group string, nodes ...string) {
	t.Helper()
	await(t, 90*time.Second, fmt.Sprintf("gateways of %s on %q", group, nodes), func(ctx context.Context) (string, error) {
		pods, err := gatewayPods(ctx, group)
		if err != nil {
			return "", err
		}
		for _, n := range nodes {
			if p, ok := pods[n]; !ok || !ready(p) {
				return fmt.Sprintf("on %s there is a pod: %v, %s", n, ok, p.Status.Phase), nil
			}
		}
		if len(pods) != len(nodes) {
			return fmt.Sprintf("%d pods, want %d", len(pods), len(nodes)), nil
		}
		return "", nil
	}, &corev1.PodList{})
}

// group fetches a group.
func group(ctx context.Context, name string) (*v1alpha1.EgressGroup, error) {
	g := new(v1alpha1.EgressGroup)
	return g, s.Client.Get(ctx, client.ObjectKey{Name: name}, g)
}

// awaitTrue waits until the condition of the group is true, for its present generation, and returns what it says.
func awaitTrue(t *testing.T, name, condition string) (reason, message string) {
	t.Helper()
	c := awaitCondition(t, name, condition, metav1.ConditionTrue)
	return c.Reason, c.Message
}

// awaitCondition waits until the condition of the group has that status, for its present generation, and returns it.
func awaitCondition(t *testing.T, name, kind string, status metav1.ConditionStatus) metav1.Condition {
	t.Helper()
	var found metav1.Condition
	await(t, 30*time.Second, fmt.Sprintf("%s of %s is %s", kind, name, status), func(ctx context.Context) (string, error) {
		g, err := group(ctx, name)
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(g.Status.Conditions, kind)
		if c == nil || c.Status != status || c.ObservedGeneration != g.Generation {
			return fmt.Sprintf("%+v", g.Status.Conditions), nil
		}
		found = *c
		return "", nil
	}, &v1alpha1.EgressGroupList{})
	return found
}

// leftOf says what of a deleted group is still there.
func leftOf(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if _, err := group(ctx, name); client.IgnoreNotFound(err) != nil {
			return "", err
		} else if err == nil {
			return "the group", nil
		}
		for _, list := range []client.ObjectList{
			&v1alpha1.EgressGatewayList{}, &appsv1.DaemonSetList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceAccountList{},
		} {
			left, err := names(ctx, list, inNamespace, ofGroup(name))
			if err != nil || len(left) > 0 {
				return fmt.Sprintf("%T: %q", list, left), err
			}
		}
		return nodesLabelled(ctx, name)
	}
}

// nodesLabelled says which nodes still carry the group's label.
func nodesLabelled(ctx context.Context, name string) (string, error) {
	left, err := names(ctx, &corev1.NodeList{}, client.HasLabels{v1alpha1.NodeLabel(name)})
	if len(left) > 0 {
		return fmt.Sprintf("label on nodes %q", left), err
	}
	return "", err
}

// awaitGoing waits until the agent of a node has told that the group has no member there any more.
func awaitGoing(t *testing.T, group, node string) {
	t.Helper()
	key := client.ObjectKey{Namespace: stage.Namespace, Name: v1alpha1.GatewayName(group, node)}
	await(t, time.Minute, fmt.Sprintf("the gateway of %s on %s is to go", group, node), func(ctx context.Context) (string, error) {
		egw := new(v1alpha1.EgressGateway)
		err := s.Client.Get(ctx, key, egw)
		if apierrors.IsNotFound(err) || err == nil && !egw.DeletionTimestamp.IsZero() {
			return "", nil
		}
		return "it is to stay", err
	}, &v1alpha1.EgressGatewayList{})
}

// awaitAgents waits until there is an agent at work on every node. It may be called after the test's own context has ended.
func awaitAgents(ctx context.Context) error {
	return waitFor(ctx, func(ctx context.Context) (string, error) {
		ds := new(appsv1.DaemonSet)
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: stage.Namespace, Name: "tailgate-agent"}, ds); err != nil {
			return "", err
		}
		st, nodes := ds.Status, int32(len(s.Cluster.Nodes()))
		if st.ObservedGeneration != ds.Generation || st.NumberReady != nodes || st.UpdatedNumberScheduled != nodes {
			return fmt.Sprintf("%d of %d agents are ready", st.NumberReady, nodes), nil
		}
		return "", nil
	}, &appsv1.DaemonSetList{})
}

// deleteOperator deletes the operator's pods at once, whichever leads.
func deleteOperator(t *testing.T) {
	t.Helper()
	err := s.Client.DeleteAllOf(within(t, time.Minute), &corev1.Pod{}, inNamespace,
		client.MatchingLabels{"app.kubernetes.io/name": stage.Release}, client.GracePeriodSeconds(0))
	if err != nil {
		t.Fatal(err)
	}
}

// awaitGatewayCondition waits until a condition of the group's gateway on a node has that status, and returns it.
func awaitGatewayCondition(t *testing.T, group, node, kind string, status metav1.ConditionStatus) metav1.Condition {
	t.Helper()
	var found metav1.Condition
	key := client.ObjectKey{Namespace: stage.Namespace, Name: v1alpha1.GatewayName(group, node)}
	await(t, 30*time.Second, fmt.Sprintf("%s of %s on %s is %s", kind, group, node, status), func(ctx context.Context) (string, error) {
		egw := new(v1alpha1.EgressGateway)
		err := s.Client.Get(ctx, key, egw)
		c := meta.FindStatusCondition(egw.Status.Conditions, kind)
		if err != nil || c == nil || c.Status != status {
			return fmt.Sprintf("%+v", egw.Status.Conditions), err
		}
		found = *c
		return "", nil
	}, &v1alpha1.EgressGatewayList{})
	return found
}
