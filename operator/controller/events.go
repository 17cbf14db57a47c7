package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// event records an event (events.k8s.io/v1).
func (s *shared) event(about client.Object, kind, reason, action, format string, args ...any) {
	s.Metrics.event(reason)
	gvk, err := s.client.GroupVersionKindFor(about)
	if err != nil {
		return // not one of ours
	}
	// Without the resource version, so that what happens again and again is one event with a count.
	ref := corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID(),
	}
	s.recorder.record(ref, kind, reason, action, fmt.Sprintf(format, args...))
}

// tell records an event for each condition that changed: when one no longer holds, and when it does again.
// That a group is ready is told; why it is not is told of the condition that says so.
func (r *groupRun) tell(before, after []metav1.Condition) {
	for _, c := range after {
		was := meta.FindStatusCondition(before, c.Type)
		if was != nil && was.Status == c.Status && was.Reason == c.Reason {
			continue
		}
		good := metav1.ConditionTrue
		if c.Type == v1alpha1.ConditionMembersConflicting {
			good = metav1.ConditionFalse
		}
		switch {
		case c.Type == v1alpha1.ConditionReady && c.Status != good && c.Reason != ReasonDeleting:
		case c.Status == metav1.ConditionUnknown:
		case c.Status != good && c.Reason != ReasonDeleting, c.Reason == ReasonRenewalDelayed, c.Reason == ReasonCleanupDelayed:
			r.event(r.group, corev1.EventTypeWarning, c.Reason, "Report", "%s: %s", c.Type, c.Message)
		case was != nil || c.Type == v1alpha1.ConditionReady:
			// At first nothing holds, which is no news.
			r.event(r.group, corev1.EventTypeNormal, c.Reason, "Report", "%s: %s", c.Type, c.Message)
		}
	}
}
