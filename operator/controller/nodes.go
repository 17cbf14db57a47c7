package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// nodes reconciles the labels that send gateways to nodes.
type nodes struct{ *shared }

// Reconcile gives one node the label of each group that wants a gateway there, and takes off all
// others of ours. That a group has gateways on every node makes no difference: should that
// end, the labels are there already and no gateway stops in between.
func (r *nodes) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	node := nodeMetadata()
	if err := r.client.Get(ctx, req.NamespacedName, node); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	want, err := r.wanted(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	change := map[string]*string{}
	for label, value := range nodeLabels(node.Labels) {
		if !want[label] {
			change[label] = nil
		} else if value == "" {
			delete(want, label)
		}
	}
	for label := range want {
		change[label] = new(string)
	}
	if len(change) == 0 {
		return reconcile.Result{}, nil
	}
	return result(ctx, 0, r.patchLabels(ctx, req.Name, change))
}

// wanted returns the labels that a node should have.
func (r *nodes) wanted(ctx context.Context, node string) (map[string]bool, error) {
	list, err := r.listGateways(ctx, client.MatchingFields{byNode: node})
	if err != nil {
		return nil, err
	}
	want := map[string]bool{}
	for i := range list {
		if !wants(&list[i]) {
			continue
		}
		group := &v1alpha1.EgressGroup{}
		err := r.client.Get(ctx, client.ObjectKey{Name: list[i].Spec.Group}, group)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read EgressGroup %s: %w", list[i].Spec.Group, err)
		}
		if !apierrors.IsNotFound(err) && !deleting(group) {
			want[v1alpha1.NodeLabel(group.Name)] = true
		}
	}
	return want, nil
}

// nodeLabels returns those labels of a node that are ours.
func nodeLabels(all map[string]string) map[string]string {
	ours := map[string]string{}
	for label, value := range all {
		if strings.HasPrefix(label, v1alpha1.NodeLabelPrefix) {
			ours[label] = value
		}
	}
	return ours
}

// patchLabels sets labels of a node and removes those whose value is nil. Nothing else of the node is written.
func (s *shared) patchLabels(ctx context.Context, node string, change map[string]*string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": change}})
	if err != nil {
		return err
	}
	o := nodeMetadata()
	o.ObjectMeta = metav1.ObjectMeta{Name: node}
	if err := s.client.Patch(ctx, o, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("label Node %s: %w", node, err)
	}
	return nil
}
