package controller

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/render"
)

// ours are managed fields as the server has them after an apply.
func ours(fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

func theirs(fields string) metav1.ManagedFieldsEntry {
	m := ours(fields)
	m.Manager, m.Operation = "kubectl-edit", metav1.ManagedFieldsOperationUpdate
	return m
}

func TestPick(t *testing.T) {
	const pod = `{"nodeName": "n", "args": ["x", "y"], "finalizers": ["a", "b"], "containers": [
		{"name": "sidecar", "image": "s"},
		{"name": "gateway", "image": "g", "ports": [
			{"containerPort": 9002, "protocol": "TCP", "name": "metrics"}, {"containerPort": 9002, "protocol": "UDP"}]}]}`
	for set, want := range map[string]string{
		`{}`:                                pod,
		`{"f:nodeName": {}}`:                `{"nodeName": "n"}`,
		`{"f:nodeName": {}, "f:none": {}}`:  `{"nodeName": "n"}`,
		`{"f:args": {}}`:                    `{"args": ["x", "y"]}`,
		`{"f:finalizers": {"v:\"b\"": {}}}`: `{"finalizers": ["b"]}`,
		`{"f:containers": {"k:{\"name\":\"gateway\"}": {".": {}, "f:image": {}}}}`: `{"containers": [{"image": "g"}]}`,
		`{"f:containers": {"k:{\"name\":\"gateway\"}": {"f:ports": {"k:{\"containerPort\":9002,\"protocol\":\"TCP\"}": {}}}}}`: `{"containers": [
			{"ports": [{"containerPort": 9002, "protocol": "TCP", "name": "metrics"}]}]}`,
		`{"f:containers": {"k:{\"name\":\"none\"}": {}}}`: `{"containers": []}`,
		`{"f:nodeName": {"f:below": {}}}`:                 `{"nodeName": "n"}`,
	} {
		got := pick(decoded(t, pod), decoded(t, set).(map[string]any))
		if diff := cmp.Diff(decoded(t, want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", set, diff)
		}
	}
}

// decoded is JSON as the hash is made of it.
func decoded(t *testing.T, text string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return runtime.DeepCopyJSONValue(integers(v))
}

// integers makes int64 of whole numbers, as the converter does.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		return int64(v)
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	}
	return v
}

// TestHash compares what is wanted with what a server may hold of it.
func TestHash(t *testing.T) {
	config := corev1ac.ConfigMap("gw-a", "ns").WithLabels(map[string]string{"app": "gateway"}).WithData(map[string]string{"config.json": "{}"})
	want, err := wantedHash(config, &corev1.ConfigMap{})
	if err != nil || want == "" {
		t.Fatal(want, err)
	}
	all := ours(`{"f:data": {"f:config.json": {}}, "f:metadata": {"f:labels": {"f:app": {}}}}`)
	for what, tt := range map[string]struct {
		same   bool
		change func(*corev1.ConfigMap)
	}{
		"as applied": {true, func(*corev1.ConfigMap) {}},
		"with more of others": {true, func(c *corev1.ConfigMap) {
			c.Data["more"], c.Labels["team"], c.Annotations = "x", "net", map[string]string{"a": "b"}
			c.ManagedFields = append(c.ManagedFields, theirs(`{"f:data": {"f:more": {}}}`))
		}},
		"of which others own a part, too": {true, func(c *corev1.ConfigMap) {
			c.ManagedFields = append(c.ManagedFields, theirs(`{"f:data": {"f:config.json": {}}}`))
		}},
		"with another value by our name": {false, func(c *corev1.ConfigMap) { c.Data["config.json"] = "x" }},
		"with a value of another owner": {false, func(c *corev1.ConfigMap) {
			c.ManagedFields = []metav1.ManagedFieldsEntry{ours(`{"f:metadata": {"f:labels": {"f:app": {}}}}`), theirs(`{"f:data": {"f:config.json": {}}}`)}
		}},
		"a value gone": {false, func(c *corev1.ConfigMap) { c.Labels = nil }},
		"a field that is no longer wanted": {false, func(c *corev1.ConfigMap) {
			c.Data["old"] = "x"
			c.ManagedFields = []metav1.ManagedFieldsEntry{ours(`{"f:data": {"f:config.json": {}, "f:old": {}}, "f:metadata": {"f:labels": {"f:app": {}}}}`)}
		}},
		"nobody's fields":          {false, func(c *corev1.ConfigMap) { c.ManagedFields = nil }},
		"fields of another object": {false, func(c *corev1.ConfigMap) { c.ManagedFields[0].Subresource = "status" }},
		"what cannot be read":      {false, func(c *corev1.ConfigMap) { c.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{`) }},
		"what another one applied": {false, func(c *corev1.ConfigMap) { c.ManagedFields[0].Manager = "kubectl" }},
		"what we wrote otherwise":  {false, func(c *corev1.ConfigMap) { c.ManagedFields[0].Operation = metav1.ManagedFieldsOperationUpdate }},
	} {
		c := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "gw-a", Namespace: "ns", Labels: map[string]string{"app": "gateway"}, ManagedFields: []metav1.ManagedFieldsEntry{all}},
			Data:       map[string]string{"config.json": "{}"},
		}
		tt.change(c)
		reduced, err := reduce(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := hashOf(reduced.(client.Object)) == want; got != tt.same {
			t.Errorf("%s: the same is %t", what, got)
		}
	}
}

// TestReduce: nothing stays in memory but what somebody reads, and client-go may reduce twice.
func TestReduce(t *testing.T) {
	now, yes := metav1.Now(), true
	full := metav1.ObjectMeta{
		Namespace: "ns", Name: "gw-a", UID: "u", ResourceVersion: "7", Generation: 3, CreationTimestamp: now, DeletionTimestamp: &now,
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{render.AnnotationKeyID: "k1"}, Finalizers: []string{"f"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "EgressGroup", Name: "a", UID: "g", Controller: &yes}},
		ManagedFields:   []metav1.ManagedFieldsEntry{ours(`{"f:metadata": {"f:labels": {"f:a": {}}}}`)},
	}
	kept := metav1.ObjectMeta{
		Namespace: "ns", Name: "gw-a", UID: "u", ResourceVersion: "7", DeletionTimestamp: &now, OwnerReferences: full.OwnerReferences,
		ManagedFields: []metav1.ManagedFieldsEntry{{Operation: operationReduced, Manager: hash(map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}})}},
	}
	withKey := kept
	withKey.Annotations = full.Annotations
	data := map[string][]byte{render.AuthKeyKey: []byte("tskey-auth-x")}
	for _, tt := range []struct{ full, want client.Object }{
		{
			&appsv1.DaemonSet{
				ObjectMeta: full, Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{NodeName: "n"}}},
				Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 1, CurrentNumberScheduled: 2},
			},
			&appsv1.DaemonSet{ObjectMeta: kept, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 1}},
		},
		{&corev1.ConfigMap{ObjectMeta: full, Data: map[string]string{"a": "b"}}, &corev1.ConfigMap{ObjectMeta: kept}},
		{&corev1.ServiceAccount{ObjectMeta: full, AutomountServiceAccountToken: &yes}, &corev1.ServiceAccount{ObjectMeta: kept}},
		{&corev1.Secret{ObjectMeta: full, Type: "Opaque", Data: data}, &corev1.Secret{ObjectMeta: withKey, Data: data}},
	} {
		var got any = tt.full
		for range 2 {
			var err error
			if got, err = reduce(got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", kindOf(tt.full), diff)
			}
		}
	}
	tombstone := toolscache.DeletedFinalStateUnknown{Key: "ns/gw-a"}
	if got, err := reduce(tombstone); err != nil || got != tombstone {
		t.Errorf("a tombstone: %v, %v", got, err)
	}
}
