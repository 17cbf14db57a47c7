package controller

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// applyConfiguration is what the typed apply configurations of objects in a namespace have in common.
type applyConfiguration interface {
	runtime.ApplyConfiguration
	GetName() *string
	GetNamespace() *string
}

// apply makes an object as config says by server-side apply, and writes only if the cache shows
// it otherwise. It takes fields over from whoever changed them: objects made for groups are
// ours. have is an empty object of the kind; afterwards it is what the cache had, before any write.
func apply(ctx context.Context, s *shared, config applyConfiguration, have client.Object) error {
	name := client.ObjectKey{Namespace: *config.GetNamespace(), Name: *config.GetName()}
	fail := func(err error) error {
		return fmt.Errorf("apply %s %s: %w", kindOf(have), name, err)
	}
	want, err := wantedHash(config, have)
	if err != nil {
		return fail(err)
	}
	if err := s.client.Get(ctx, name, have); client.IgnoreNotFound(err) != nil {
		return fail(err)
	} else if !apierrors.IsNotFound(err) && hashOf(have) == want {
		return nil
	}
	if err := s.client.Apply(ctx, config, client.ForceOwnership); err != nil {
		return fail(err)
	}
	s.Metrics.applied(kindOf(have))
	return nil
}

// kindOf returns the kind of an object by its Go type, which is what it is called in Kubernetes.
func kindOf(o client.Object) string { return reflect.TypeOf(o).Elem().Name() }
