//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// within returns a context with a limit, which ends with the test.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// await waits until cond returns "", and looks again at each event of lists; cond says what is missing.
func await(t *testing.T, limit time.Duration, what string, cond func(context.Context) (string, error), lists ...client.ObjectList) {
	t.Helper()
	began := time.Now()
	if err := waitFor(within(t, limit), cond, lists...); err != nil {
		t.Fatalf("%s: not within %v: %v", what, limit, err)
	}
	t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
}

// waitFor is [await] for what ends with another context than the test's.
func waitFor(ctx context.Context, cond func(context.Context) (string, error), lists ...client.ObjectList) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	event := make(chan struct{}, 1)
	for _, list := range lists {
		w, err := s.Client.Watch(ctx, list)
		if err != nil {
			return fmt.Errorf("watch %T: %w", list, err)
		}
		go relay(ctx, list, w, event)
	}
	for {
		missing, err := cond(ctx)
		if err == nil && missing == "" {
			return nil
		}
		select {
		case <-event:
		case <-ctx.Done():
			return fmt.Errorf("%s (%w)", missing, errors.Join(err, ctx.Err()))
		}
	}
}

// relay passes on that something happened, until ctx ends. The API server may end a watch at any time; what happened until the next one
// may have been missed, so that counts as something, too.
func relay(ctx context.Context, list client.ObjectList, w watch.Interface, event chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			w.Stop()
			return
		case _, open := <-w.ResultChan():
			if !open {
				err := rig.Retry(ctx, func(ctx context.Context) (err error) {
					w, err = s.Client.Watch(ctx, list)
					return err
				})
				if err != nil {
					return // ctx has ended
				}
			}
			select {
			case event <- struct{}{}:
			default:
			}
		}
	}
}

// kubectl runs kubectl, which must succeed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.Kubectl(within(t, time.Minute), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// inNamespace is tailgate's.
var inNamespace = client.InNamespace(stage.Namespace)
