//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
)

func (d *demo) begin(ctx context.Context) error {
	for _, name := range []string{payments, peers} {
		d.check(ctx, "kubectl apply -f deploy/examples/"+name+".yaml", slow, func(ctx context.Context) (string, error) {
			if err := d.applyExample(ctx, name); err != nil {
				return "", err
			}
			return "Ready", d.awaitCondition(ctx, name, v1alpha1.ConditionReady)
		})
	}
	d.see(ctx, "without a member there is no gateway, and no device in the tailnet", func(ctx context.Context) error {
		for _, name := range []string{payments, peers} {
			if err := d.awaitGateways(ctx, name); err != nil {
				return err
			}
		}
		return d.wantDevices(nil)
	})
	if err := d.startPods(ctx); err != nil {
		return err
	}
	d.gateways(ctx)
	d.check(ctx, "kubectl get eg tells how many pods each has", quick, func(ctx context.Context) (string, error) {
		if err := d.awaitMembers(ctx, payments, few); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %d, %s %d", payments, few, peers, 2), d.awaitMembers(ctx, peers, 2)
	})
	d.check(ctx, "both groups select the pods in the namespace payments, and the older has them", quick, d.conflict)
	return nil
}

// example is a manifest as it stands.
func (d *demo) example(name string) string {
	return filepath.Join(d.Root(), "deploy", "examples", name+".yaml")
}

func (d *demo) applyExample(ctx context.Context, name string) error {
	_, err := d.Kubectl(ctx, "apply", "-f", d.example(name))
	return err
}

// awaitCondition waits until the group's condition is true for its present generation.
func (d *demo) awaitCondition(ctx context.Context, name, condition string) error {
	return until(ctx, func(ctx context.Context) (string, error) {
		g, err := d.group(ctx, name)
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(g.Status.Conditions, condition)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != g.Generation {
			return fmt.Sprintf("%s of %s: %+v", condition, name, c), nil
		}
		return "", nil
	})
}

// makePods makes what is to be member, and what is not.
func (d *demo) makePods(ctx context.Context) error {
	if err := d.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: payments}}); err != nil {
		return err
	}
	outsider := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: payments, Name: "outsider", Labels: map[string]string{app: "outsider"}},
		Spec:       podSpec("serve"),
	}
	outsider.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n1}
	if err := d.Client.Create(ctx, outsider); err != nil {
		return err
	}
	if err := d.Client.Create(ctx, membersOfPeers()); err != nil {
		return err
	}
	return d.Client.Create(ctx, d.membersOfPayments(few, d.Rig.Nodes[rig.Plain].Tail4))
}

// startPods makes the pods, and enters one of each kind.
func (d *demo) startPods(ctx context.Context) error {
	var members, others, outsiders []corev1.Pod
	d.check(ctx, fmt.Sprintf("a Deployment of %d members in the namespace %s", few, payments), slow, func(ctx context.Context) (_ string, err error) {
		if err := d.makePods(ctx); err != nil {
			return "", err
		}
		members, err = d.awaitPods(ctx, payments, payments, few)
		return "they run, " + byNode(members), err
	})
	d.check(ctx, fmt.Sprintf("a Deployment of 2 members of %s on %s, and a pod without the label", peers, n1), slow, func(ctx context.Context) (_ string, err error) {
		if others, err = d.awaitPods(ctx, "default", peers, 2); err != nil {
			return "", err
		}
		outsiders, err = d.awaitPods(ctx, payments, "outsider", 1)
		return "they run", err
	})
	d.first = map[string]bool{}
	for _, p := range members {
		d.first[p.Name] = true
	}
	onN1 := slices.DeleteFunc(members, func(p corev1.Pod) bool { return p.Spec.NodeName != n1 })
	for _, of := range []struct {
		pods []corev1.Pod
		as   **pod
	}{{onN1, &d.member}, {others, &d.other}, {outsiders, &d.outsider}} {
		if len(of.pods) == 0 {
			return fmt.Errorf("a pod is missing on %s", n1)
		}
		p, err := d.enter(ctx, of.pods[0])
		if err != nil {
			return err
		}
		*of.as = p
	}
	return nil
}

func (d *demo) gateways(ctx context.Context) {
	d.check(ctx, "gateways run on the nodes that have members, and on no other", slow, func(ctx context.Context) (string, error) {
		if err := d.awaitGateways(ctx, payments, n1, n2); err != nil {
			return "", err
		}
		return "payments on n1 and n2, peers on n1", d.awaitGateways(ctx, peers, n1)
	})
	d.check(ctx, "each is one device of the tailnet, with its group's tag", quick, func(ctx context.Context) (string, error) {
		err := d.Rig.Tailnet.Wait(ctx, func(*tailnet.Tailnet) bool { return d.wantDevices(allDevices) == nil })
		if err != nil {
			return "", d.wantDevices(allDevices)
		}
		return strings.Join(d.devices(), ", "), nil
	})
}

// allDevices are those of both groups' gateways.
var allDevices = []string{"payments-n1", "payments-n2", "peers-n1"}

// devices returns the names of the gateways' devices.
func (d *demo) devices() []string {
	var names []string
	for _, group := range []string{payments, peers} {
		for _, n := range d.Rig.Tailnet.NodesByTag(v1alpha1.DefaultTag(group)) {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}

// wantDevices checks the devices of the gateways, and that there is no other beside the tailnet's own nodes.
func (d *demo) wantDevices(want []string) error {
	got := d.devices()
	if !slices.Equal(got, want) {
		return fmt.Errorf("the gateways' devices are %q, not %q", got, want)
	}
	if all := len(d.Rig.Tailnet.Nodes()); all != len(d.Rig.Nodes)+len(want) {
		return fmt.Errorf("the tailnet has %d devices, not %d", all, len(d.Rig.Nodes)+len(want))
	}
	return nil
}

// conflict: peers selects the pods of payments, too, and says so.
func (d *demo) conflict(ctx context.Context) (string, error) {
	if err := d.awaitCondition(ctx, peers, v1alpha1.ConditionMembersConflicting); err != nil {
		return "", err
	}
	g, err := d.group(ctx, peers)
	if err != nil {
		return "", err
	}
	message := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionMembersConflicting).Message
	if !strings.Contains(message, payments) {
		return "", fmt.Errorf("the condition says only %q", message)
	}
	says, _, _ := strings.Cut(message, ";")
	return peers + " says that " + says, nil
}

// again brings the scene back to how it was before the scaling.
func (d *demo) again(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*slow)
	defer cancel()
	d.leavePods()
	for _, name := range []string{payments, peers} {
		if err := d.applyExample(ctx, name); err != nil {
			return err
		}
	}
	if err := d.Client.Create(ctx, membersOfPeers()); client.IgnoreAlreadyExists(err) != nil {
		return err
	}
	scale := []string{"scale", "-n", payments, "deployment/" + payments, fmt.Sprintf("--replicas=%d", few)}
	if _, err := d.Kubectl(ctx, scale...); err != nil {
		return err
	}
	if err := d.awaitGateways(ctx, payments, n1, n2); err != nil {
		return err
	}
	if err := d.awaitGateways(ctx, peers, n1); err != nil {
		return err
	}
	_, err := d.awaitPods(ctx, payments, payments, few)
	return err
}

// since is a time for people.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
