//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// socket is the gateway's, seen from outside of the node.
func socket(ctx context.Context, group, node string) (string, error) {
	n, err := s.Node(node)
	if err != nil {
		return "", err
	}
	pid, err := n.PID(ctx)
	return fmt.Sprintf("/proc/%d/root/run/tailgate/gateways/%s/snapshot.sock", pid, v1alpha1.GroupObjectName(group)), err
}

// snapshotOf fetches what the group's gateway on a node says of itself.
func snapshotOf(t *testing.T, name, node string) (snapshot.Snapshot, error) {
	t.Helper()
	ctx := within(t, time.Minute)
	path, err := socket(ctx, name, node)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	return snapshot.Get(ctx, path)
}

// follow calls fn with each snapshot until it returns false or ctx ends; gateways come and go meanwhile.
func follow(ctx context.Context, group, node string, fn func(snapshot.Snapshot) bool) {
	again := time.NewTicker(50 * time.Millisecond) // a socket in another mount namespace gives no event
	defer again.Stop()
	for {
		path, err := socket(ctx, group, node)
		if err == nil {
			err = snapshot.Watch(ctx, path, fn)
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// awaitSnapshot waits until the gateway says what is wanted, and returns that and how long it took.
func awaitSnapshot(t *testing.T, name, node, what string, limit time.Duration, good func(snapshot.Snapshot) bool) (snapshot.Snapshot, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	var last snapshot.Snapshot
	found := false
	follow(ctx, name, node, func(sn snapshot.Snapshot) bool {
		last, found = sn, good(sn)
		return !found
	})
	if !found {
		t.Fatalf("%s: not within %v; the gateway says %+v", what, limit, last)
	}
	return last, time.Since(began)
}

// isDeviceOf reports whether a device has the name of a group's on a node: the tailnet adds a number to one that is taken. One
// node's name may begin with all of another's.
func isDeviceOf(name, group, node string) bool {
	rest, ok := strings.CutPrefix(name, group+"-"+node)
	return ok && (rest == "" || rest[0] == '-')
}

// podOfN1 returns the gateway pod of the group on n1.
func podOfN1(t *testing.T, name string) corev1.Pod {
	t.Helper()
	pods, err := gatewayPods(within(t, time.Minute), name)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := pods[n1]
	if !ok {
		t.Fatalf("%s has no gateway pod on %s", name, n1)
	}
	return p
}
