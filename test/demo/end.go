//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet"
)

func (d *demo) end(ctx context.Context) error {
	var left []corev1.Pod
	d.check(ctx, fmt.Sprintf("kubectl scale --replicas=%d", few), 2*slow, func(ctx context.Context) (_ string, err error) {
		if err := errors.Join(d.scaleTo(ctx, few), d.awaitMembers(ctx, payments, few)); err != nil {
			return "", err
		}
		left, err = d.awaitPods(ctx, payments, payments, few)
		return "payments has members " + byNode(left), err
	})
	if len(left) == 0 {
		return errors.New("there is no member left")
	}
	d.check(ctx, "kubectl delete deployment peers", slow, func(ctx context.Context) (string, error) {
		_, err := d.Kubectl(ctx, "delete", "deployment", peers)
		return "it had all members of its group", err
	})
	d.check(ctx, "with its last member on a node a gateway goes, and its device", slow, func(ctx context.Context) (string, error) {
		nodes := nodesOf(left)
		var want []string
		for _, n := range nodes {
			want = append(want, payments+"-"+n)
		}
		if err := errors.Join(d.awaitGateways(ctx, payments, nodes...), d.awaitGateways(ctx, peers)); err != nil {
			return "", err
		}
		return "there are still " + strings.Join(want, ", "), d.awaitDevices(ctx, want)
	})
	// A pod that the scaling left.
	p, err := d.enter(ctx, left[0])
	if err != nil {
		return err
	}
	d.check(ctx, "kubectl delete eg payments peers: gateways, Secrets and devices go", slow, func(ctx context.Context) (string, error) {
		if _, err := d.Kubectl(ctx, "delete", "eg", payments, peers); err != nil {
			return "", err
		}
		if err := until(ctx, d.leftOfGroups); err != nil {
			return "", err
		}
		return "nothing is left of them, in the cluster and in the tailnet", d.awaitDevices(ctx, nil)
	})
	d.check(ctx, "the pods run on as ordinary pods", quick, func(ctx context.Context) (string, error) {
		err := try(ctx, func(ctx context.Context) error {
			if rig.HasLink(p.Host, ident.MemberLink) {
				return fmt.Errorf("%s still has its link", p.Host.Name)
			}
			return d.seenFrom(ctx, p.Host, 4, p.Host)
		})
		return "never restarted", errors.Join(err, d.samePod(ctx, p))
	})
	return nil
}

func (d *demo) awaitDevices(ctx context.Context, want []string) error {
	err := d.Rig.Tailnet.Wait(ctx, func(*tailnet.Tailnet) bool { return d.wantDevices(want) == nil })
	if err != nil {
		return errors.Join(d.wantDevices(want), err)
	}
	return nil
}

// leftOfGroups says what of the groups is still there.
func (d *demo) leftOfGroups(ctx context.Context) (string, error) {
	for _, list := range []client.ObjectList{
		&v1alpha1.EgressGroupList{}, &v1alpha1.EgressGatewayList{}, &appsv1.DaemonSetList{}, &corev1.PodList{},
		&corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceAccountList{},
	} {
		opts := []client.ListOption{client.InNamespace(stage.Namespace), client.HasLabels{v1alpha1.LabelGroup}}
		if _, ok := list.(*v1alpha1.EgressGroupList); ok {
			opts = nil
		}
		if err := d.Client.List(ctx, list, opts...); err != nil {
			return "", err
		}
		if n := meta.LenList(list); n > 0 {
			return fmt.Sprintf("%d of %T", n, list), nil
		}
	}
	return "", nil
}
