package daemon

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// presence is whether something is there, as far as is known.
type presence int

const (
	unknown presence = iota
	there
	gone
)

// askTimeout is how long the end of the agent waits for word of its DaemonSet.
const askTimeout = 3 * time.Second

func (d *Daemon) setDaemonSet(s *metav1.PartialObjectMetadata) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.daemonSet = there
	if !s.DeletionTimestamp.IsZero() {
		d.daemonSet = gone
	}
}

func (d *Daemon) daemonSetGone(*metav1.PartialObjectMetadata) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.daemonSet = gone
}

// uninstall takes the plugin out when the agent ends because it was uninstalled, not because it is replaced.
func (d *Daemon) uninstall(ctx context.Context) error {
	if !d.uninstalled(ctx) {
		return nil
	}
	d.log.Info("the agent's DaemonSet is gone, so the CNI plugin is taken out", "daemonSet", d.o.DaemonSet)
	d.server.Remove()
	return d.installer.Uninstall()
}

func (d *Daemon) uninstalled(ctx context.Context) bool {
	if d.o.DaemonSet == "" {
		return false
	}
	d.mu.Lock()
	known := d.daemonSet
	d.mu.Unlock()
	if known == gone {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s := daemonSetMetadata()
	err := d.live.Get(ctx, client.ObjectKey{Namespace: d.o.Namespace, Name: d.o.DaemonSet}, s)
	switch {
	case err == nil:
		return !s.DeletionTimestamp.IsZero()
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		// Its account or its role went with it. Should somebody only have broken these, the next agent puts the plugin back.
		return true
	}
	d.log.Warn("whether the agent was uninstalled cannot be told, so the CNI plugin stays", "err", err)
	return false
}
