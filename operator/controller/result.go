package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// result makes of what a reconcile came to what the queue does next: come again after wait (0: when
// something changes), or, after an error, later and later. An error that says when to try again is
// logged here, since the queue logs only those that it is given; every other one is logged by it.
func result(ctx context.Context, wait time.Duration, err error) (reconcile.Result, error) {
	if err == nil {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return reconcile.Result{}, nil // the operator ends; the next one goes on
	}
	if apierrors.IsConflict(err) {
		// Somebody else wrote first, and the cache will show it soon.
		log.FromContext(ctx).V(1).Info("an object changed meanwhile; trying again", "cause", err.Error())
		return reconcile.Result{RequeueAfter: 200 * time.Millisecond}, nil
	}
	after := retryAfter(err)
	if after == 0 {
		return reconcile.Result{}, err
	}
	var paused *pausedError
	if errors.As(err, &paused) {
		// The failure that the pause follows was logged.
		log.FromContext(ctx).V(1).Info("the tailnet's API is not asked now", "cause", err.Error(), "after", after)
	} else {
		log.FromContext(ctx).Error(err, "trying again when the tailnet's API allows it", "after", after)
	}
	// Not all at once.
	after += rand.N(after/4 + time.Second)
	if wait > 0 {
		after = min(after, wait)
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// retryAfter returns when an error says to try again; 0: it does not.
func retryAfter(err error) time.Duration {
	var paused *pausedError
	if errors.As(err, &paused) {
		return paused.wait
	}
	var api *tailnet.Error
	if errors.As(err, &api) {
		return api.RetryAfter
	}
	return 0
}

// reasonOf returns the word for an error of the credentials or the tailnet's API; any other is the
// Kubernetes API's.
func reasonOf(err error) string {
	var c *credentialsError
	if errors.As(err, &c) {
		return c.reason
	}
	var api *tailnet.Error
	if errors.As(err, &api) {
		return string(api.Reason)
	}
	return ReasonApplyFailed
}

// sooner returns the shorter of two waits, of which 0 is the longest.
func sooner(a, b time.Duration) time.Duration {
	switch {
	case a <= 0:
		return max(b, 0)
	case b <= 0:
		return a
	}
	return min(a, b)
}
