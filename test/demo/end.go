//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

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
	d.check(ctx, fmt.Sprintf("kubectl scale --replicas=%d", few), 2*slow, func(ctx context.Context) (string, error) {
		if err := errors.Join(d.scaleTo(ctx, few), d.awaitMembers(ctx, payments, few)); err != nil {
			return "", err
		}
		return fmt.Sprintf("payments has %d members, and the devices that it had", few), d.wantDevices(allDevices)
	})
	d.check(ctx, "kubectl delete deployment peers: with its last member the gateway goes, and its device", slow, func(ctx context.Context) (string, error) {
		if _, err := d.Kubectl(ctx, "delete", "deployment", peers); err != nil {
			return "", err
		}
		if err := d.awaitGateways(ctx, peers); err != nil {
			return "", err
		}
		return "peers-n1 is gone", d.awaitDevices(ctx, allDevices[:2])
	})
	// A pod that the scaling left, and that has been a member since before it.
	pods, err := d.awaitPods(ctx, payments, payments, few)
	if err != nil {
		return err
	}
	p, err := d.enter(ctx, pods[0])
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
