package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// config writes the gateways' configuration, which they take live.
func (r *groupRun) config(ctx context.Context) (time.Duration, error) {
	const kind = v1alpha1.ConditionConfigRendered
	if err := selectorError(r.group.Spec.Selector); err != nil {
		r.set(kind, metav1.ConditionFalse, ReasonSelectorInvalid, "no pod is a member until this is corrected: %s", err)
		return 0, nil // until the spec changes
	}
	cm, hash, err := render.ConfigMap(r.group, r.Render)
	if err != nil {
		r.set(kind, metav1.ConditionFalse, ReasonRenderFailed, "gateways keep the configuration that they have: %s", err)
		return 0, nil // until the spec changes
	}
	if err := apply(ctx, r.shared, cm, &corev1.ConfigMap{}); err != nil {
		r.set(kind, metav1.ConditionFalse, ReasonApplyFailed, "gateways keep the configuration that they have: %s", err)
		return 0, err
	}
	r.set(kind, metav1.ConditionTrue, ReasonRendered, "the gateways' configuration is written")
	status := &r.group.Status
	if status.ConfigHash != "" && status.ConfigHash != hash {
		r.timers.start(r.group.Name, hash)
	}
	status.ConfigHash, status.Tags = hash, render.Tags(r.group)
	return 0, nil
}

// selectorError says what admission did not: whether Kubernetes takes the selectors.
func selectorError(s v1alpha1.Selector) error {
	for field, sel := range map[string]*v1alpha1.LabelSelector{"namespaceSelector": s.NamespaceSelector, "podSelector": s.PodSelector} {
		if _, err := sel.Selector(); err != nil {
			return fmt.Errorf("spec.selector.%s: %w", field, err)
		}
	}
	return nil
}

func (r *groupRun) serviceAccount(ctx context.Context) (time.Duration, error) {
	err := apply(ctx, r.shared, render.ServiceAccount(r.group, r.Render), &corev1.ServiceAccount{})
	if err != nil {
		r.failed = err
	}
	return 0, err
}

// daemonSet runs the gateways. Where it does is the node labels' business.
func (r *groupRun) daemonSet(ctx context.Context) (time.Duration, error) {
	err := apply(ctx, r.shared, render.DaemonSet(r.group, r.Render), r.daemons)
	if err != nil {
		r.failed = err
	}
	return 0, err
}
