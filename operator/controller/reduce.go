package controller

import (
	"crypto/sha256"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Of an object that is made for a group the cache has no content. A thousand groups have a thousand pod templates that
// differ in a name, and most of the operator's memory was these. All that is asked of them is whether the
// server still holds what was applied. So when an object comes from the server, a hash is made of what it holds of that, and the
// rest is forgotten.
//
// What was applied is known from the object itself: metadata.managedFields says which fields are ours
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/). Whoever writes another value into one of
// them, or takes it away, becomes its owner, and a field that is no longer wanted stays ours until the
// next apply. Either way the hash is not that of what is wanted.

// operationReduced marks managed fields that are a hash, and with it an object that is reduced. Nobody can feign it: the
// server takes Apply and Update only.
const operationReduced metav1.ManagedFieldsOperationType = "Reduced"

// groupVersion and groupKind are in the owner reference of every object, in one copy.
var groupVersion, groupKind = v1alpha1.GroupVersion.String(), "EgressGroup"

// reduce is the cache's transform of objects that are made for groups.
func reduce(obj any) (any, error) {
	o, ok := obj.(client.Object)
	if !ok || isReduced(o) {
		return obj, nil // a tombstone, or an object of the first listing: client-go transforms these twice
	}
	kept := metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
		DeletionTimestamp: o.GetDeletionTimestamp(), OwnerReferences: o.GetOwnerReferences(),
		ManagedFields: []metav1.ManagedFieldsEntry{{Operation: operationReduced, Manager: heldHash(o)}},
	}
	for i := range kept.OwnerReferences {
		owner := &kept.OwnerReferences[i]
		owner.APIVersion, owner.Kind = either(groupVersion, owner.APIVersion), either(groupKind, owner.Kind)
	}
	switch o := o.(type) {
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: kept, Status: appsv1.DaemonSetStatus{
			DesiredNumberScheduled: o.Status.DesiredNumberScheduled, NumberReady: o.Status.NumberReady,
		}}, nil
	case *corev1.ConfigMap:
		return &corev1.ConfigMap{ObjectMeta: kept}, nil
	case *corev1.ServiceAccount:
		return &corev1.ServiceAccount{ObjectMeta: kept}, nil
	case *corev1.Secret:
		kept.Annotations = o.Annotations // they say which key it is
		return &corev1.Secret{ObjectMeta: kept, Data: o.Data}, nil
	}
	return obj, nil
}

func isReduced(o client.Object) bool {
	m := o.GetManagedFields()
	return len(m) == 1 && m[0].Operation == operationReduced
}

// hashOf returns the hash of what an object of the cache holds of what was applied; "" if there is no such object.
func hashOf(o client.Object) string {
	if !isReduced(o) {
		return ""
	}
	return o.GetManagedFields()[0].Manager
}

// heldHash returns the hash of what an object holds of what was applied. An object that cannot be understood has the
// hash of nothing, so it is applied again.
func heldHash(o client.Object) string {
	i := slices.IndexFunc(o.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == FieldManager && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == "" && m.FieldsV1 != nil
	})
	if i < 0 {
		return ""
	}
	var ours map[string]any
	if err := utiljson.Unmarshal(o.GetManagedFields()[i].FieldsV1.GetRawBytes(), &ours); err != nil {
		return ""
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return ""
	}
	return hash(pick(fields, ours))
}

// wantedHash returns the hash that an object has when it holds config. kind is any object of its type.
func wantedHash(config runtime.ApplyConfiguration, kind client.Object) (string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	var wanted map[string]any
	if err := utiljson.Unmarshal(text, &wanted); err != nil {
		return "", err
	}
	// By way of the kind's own type, so that quantities and the like are written as the server writes them.
	typed := reflect.New(reflect.TypeOf(kind).Elem()).Interface()
	if err := json.Unmarshal(text, typed); err != nil {
		return "", err
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return "", err
	}
	// Nobody owns what says which object it is.
	delete(wanted, "apiVersion")
	delete(wanted, "kind")
	if meta, ok := wanted["metadata"].(map[string]any); ok {
		delete(meta, "name")
		delete(meta, "namespace")
		delete(meta, "uid")
	}
	return hash(cut(fields, wanted)), nil
}

// hash returns 16 bytes, enough that nobody finds another content with the same. It never leaves the process, so a
// Secret's content may be in it.
func hash(fields any) string {
	text, err := json.Marshal(fields)
	if err != nil {
		return "" // decoded JSON can be encoded
	}
	sum := sha256.Sum256(text)
	return string(sum[:16])
}

// pick returns the part of a value that a set of fields names, in the format of [metav1.FieldsV1]. A field without
// fields below it is picked whole.
func pick(value any, set map[string]any) any {
	if len(set) == 0 {
		return value
	}
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, below := range set {
			name, ok := strings.CutPrefix(key, "f:")
			if v, there := value[name]; ok && there {
				below, _ := below.(map[string]any)
				out[name] = pick(v, below)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range value {
			if below, ok := pickItem(item, set); ok {
				out = append(out, pick(item, below))
			}
		}
		return out
	}
	return value
}

// pickItem returns what a set names of an item of a list, and whether it names the item at all.
func pickItem(item any, set map[string]any) (map[string]any, bool) {
	for key, below := range set {
		below, _ := below.(map[string]any)
		if text, ok := strings.CutPrefix(key, "k:"); ok {
			var keys map[string]any
			if utiljson.Unmarshal([]byte(text), &keys) == nil && hasKeys(item, keys) {
				return below, true
			}
		}
		if text, ok := strings.CutPrefix(key, "v:"); ok {
			var v any
			if utiljson.Unmarshal([]byte(text), &v) == nil && reflect.DeepEqual(v, item) {
				return below, true
			}
		}
	}
	return nil, false
}

// hasKeys reports whether an item of a list has these values.
func hasKeys(item any, keys map[string]any) bool {
	have, _ := item.(map[string]any)
	for k, v := range keys {
		if have[k] != v {
			return false
		}
	}
	return true
}

// cut returns value without what shape does not have, such as what is empty and encoded all the same.
func cut(value, shape any) any {
	switch shape := shape.(type) {
	case map[string]any:
		value, _ := value.(map[string]any)
		out := map[string]any{}
		for k, below := range shape {
			if v, there := value[k]; there {
				out[k] = cut(v, below)
			}
		}
		return out
	case []any:
		value, _ := value.([]any)
		out := make([]any, min(len(value), len(shape)))
		for i := range out {
			out[i] = cut(value[i], shape[i])
		}
		return out
	}
	return value
}
