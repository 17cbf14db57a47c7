package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// annotationApplied is on each object that is applied: a hash of what was. It changes when a field is no
// longer wanted, which a look at the fields that are wanted would not show.
const annotationApplied = "tailscale.rajsingh.info/applied"

// applyConfiguration is what the typed apply configurations of objects in a namespace have in common.
type applyConfiguration[T any] interface {
	runtime.ApplyConfiguration
	GetName() *string
	GetNamespace() *string
	WithAnnotations(map[string]string) T
}

// apply makes an object as config says by server-side apply, and writes only if the cache shows
// it otherwise. It takes fields over from whoever changed them: objects made for groups are
// ours. have is an empty object of the kind; afterwards it is what the cache had, before any write.
func apply[C applyConfiguration[C]](ctx context.Context, s *shared, config C, have client.Object) (wrote bool, err error) {
	name := client.ObjectKey{Namespace: *config.GetNamespace(), Name: *config.GetName()}
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("apply %s %s: %w", kindOf(have), name, err)
	}
	want, err := stamp(config)
	if err != nil {
		return fail(err)
	}
	switch err := s.client.Get(ctx, name, have); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fail(err)
	default:
		same, err := holds(want, have)
		if err != nil {
			return fail(err)
		}
		if same {
			return false, nil
		}
	}
	if err := s.client.Apply(ctx, config, client.ForceOwnership); err != nil {
		return fail(err)
	}
	s.Metrics.applied(kindOf(have))
	return true, nil
}

// stamp adds the annotation of what is applied, and returns all of it as decoded JSON.
func stamp[C applyConfiguration[C]](config C) (map[string]any, error) {
	fields, err := tree(config)
	if err != nil {
		return nil, err
	}
	// Values of a Secret stay out of the hash. They need not be in it, since they are compared.
	hashed := maps.Clone(fields)
	if data, ok := hashed["data"].(map[string]any); ok {
		keys := map[string]any{}
		for k := range data {
			keys[k] = ""
		}
		hashed["data"] = keys
	}
	text, err := json.Marshal(hashed)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	config.WithAnnotations(map[string]string{annotationApplied: hex.EncodeToString(sum[:6])})
	return tree(config)
}

// holds reports whether every field that is wanted has its value in have.
func holds(want map[string]any, have client.Object) (bool, error) {
	// By way of the kind's own type, so that quantities and the like are written the same way
	// and absent values are absent in both.
	typed := reflect.New(reflect.TypeOf(have).Elem()).Interface()
	if err := decode(want, typed); err != nil {
		return false, err
	}
	wanted, err := tree(typed)
	if err != nil {
		return false, err
	}
	got, err := tree(have)
	if err != nil {
		return false, err
	}
	for field := range want {
		// The cache leaves the first two out; whoever reads it knows the kind.
		if field != "apiVersion" && field != "kind" && !contains(got[field], wanted[field]) {
			return false, nil
		}
	}
	return true, nil
}

// contains reports whether all that is in want is in have. Others may add to maps and to lists of
// objects, which server-side apply merges; a list of plain values is one value.
func contains(have, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		have, _ := have.(map[string]any)
		for k, v := range want {
			if !contains(have[k], v) {
				return false
			}
		}
		return true
	case []any:
		have, _ := have.([]any)
		if len(want) > 0 {
			if _, objects := want[0].(map[string]any); objects {
				return containsAll(have, want)
			}
		}
		return len(have) == len(want) && (len(want) == 0 || reflect.DeepEqual(have, want))
	}
	return have == want
}

// containsAll reports whether have has the wanted objects in their order.
func containsAll(have, want []any) bool {
	for _, h := range have {
		if len(want) > 0 && contains(h, want[0]) {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// tree returns v as decoded JSON.
func tree(v any) (map[string]any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(text, &out)
}

// decode is the way back.
func decode(tree map[string]any, into any) error {
	text, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// kindOf returns the kind of an object by its Go type, which is what it is called in Kubernetes.
func kindOf(o client.Object) string { return reflect.TypeOf(o).Elem().Name() }
