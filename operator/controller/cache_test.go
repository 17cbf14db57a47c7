package controller

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// fullMeta is metadata with everything in it.
func fullMeta() metav1.ObjectMeta {
	now := metav1.NewTime(noon)
	return metav1.ObjectMeta{
		Namespace: "ns", Name: "a", UID: "u", ResourceVersion: "7", Generation: 3, CreationTimestamp: now, DeletionTimestamp: &now,
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}, Finalizers: []string{"f"},
		OwnerReferences: []metav1.OwnerReference{{Name: "a"}}, ManagedFields: []metav1.ManagedFieldsEntry{theirs(`{}`)},
	}
}

func condition(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

// TestSlim: of groups and gateways the cache has what somebody reads.
func TestSlim(t *testing.T) {
	kept := fullMeta()
	kept.CreationTimestamp, kept.Labels, kept.Annotations, kept.OwnerReferences, kept.ManagedFields = metav1.Time{}, nil, nil, nil, nil
	spec := v1alpha1.EgressGroupSpec{Routes: []string{"10.0.0.0/8"}}
	status := v1alpha1.EgressGroupStatus{MemberPods: 3, Tags: []string{"tag:a"}, Conditions: []metav1.Condition{condition("Ready", "AllReady", "fine")}}
	kind := metav1.TypeMeta{Kind: "k", APIVersion: "v"}
	conflict := condition(v1alpha1.ConditionMembersConflicting, "OlderGroup", "x")
	for _, tt := range []struct {
		slim       toolscache.TransformFunc
		full, want client.Object
	}{
		{
			(&words{}).slimGroup,
			&v1alpha1.EgressGroup{TypeMeta: kind, ObjectMeta: fullMeta(), Spec: spec, Status: status},
			&v1alpha1.EgressGroup{ObjectMeta: kept, Spec: spec, Status: status},
		},
		{
			(&words{}).slimGateway,
			&v1alpha1.EgressGateway{
				TypeMeta: kind, ObjectMeta: fullMeta(), Spec: v1alpha1.EgressGatewaySpec{Group: "g", Node: "n"},
				Status: v1alpha1.EgressGatewayStatus{
					BackendState: "Running", DeviceID: "d", Tags: []string{"tag:a"}, Addresses: []string{"100.64.0.1"}, Members: 2,
					ExitNode: &v1alpha1.GatewayExitNode{ID: "e"}, ConfigHash: "h", Version: "v1",
					Conditions: []metav1.Condition{condition(v1alpha1.ConditionConfigApplied, "r", "m"), conflict},
				},
			},
			&v1alpha1.EgressGateway{
				ObjectMeta: kept, Spec: v1alpha1.EgressGatewaySpec{Group: "g", Node: "n"},
				Status: v1alpha1.EgressGatewayStatus{
					DeviceID: "d", Tags: []string{"tag:a"}, Members: 2, ExitNode: &v1alpha1.GatewayExitNode{ID: "e"}, ConfigHash: "h",
					Conditions: []metav1.Condition{conflict},
				},
			},
		},
	} {
		var got any = tt.full
		for range 2 { // as client-go does with what is listed first
			var err error
			if got, err = tt.slim(got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", kindOf(tt.full), diff)
			}
		}
		tombstone := toolscache.DeletedFinalStateUnknown{Key: "ns/a"}
		if got, err := tt.slim(tombstone); err != nil || got != tombstone {
			t.Errorf("a tombstone: %v, %v", got, err)
		}
	}
}

// TestShare: equal texts have one memory, whatever comes in between, and no agent can fill it.
func TestShare(t *testing.T) {
	w := &words{}
	// Of strings that are made anew, as decoders do.
	fresh := func(reason, message string) []metav1.Condition {
		clone := func(s string) string { return string([]byte(s)) }
		return []metav1.Condition{condition(clone("Ready"), clone(reason), clone(message))}
	}
	first := w.share(fresh("AllReady", "fine"))
	for i := range 2 * maxWords {
		w.share(fresh("Reason"+strconv.Itoa(i), "x"))
	}
	if len(w.of) > maxWords {
		t.Errorf("%d texts are remembered", len(w.of))
	}
	want := fresh("AllReady", "fine")
	second := w.share(want)
	if diff := cmp.Diff(want, second); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	for what, texts := range map[string][2]string{
		"type": {first[0].Type, second[0].Type}, "reason": {first[0].Reason, second[0].Reason}, "message": {first[0].Message, second[0].Message},
	} {
		if unsafe.StringData(texts[0]) != unsafe.StringData(texts[1]) {
			t.Errorf("%s: there are two copies", what)
		}
	}
	if w.share(nil) != nil {
		t.Error("nothing takes memory")
	}
}
