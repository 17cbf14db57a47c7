package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"

	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/stitch"
)

// Reasons of events on pods.
const (
	// ReasonJoined: the pod has its link to the tailnet.
	ReasonJoined = "Joined"
	// ReasonWaiting: it should have one, and is kept in without.
	ReasonWaiting = "Waiting"
	// ReasonJoinFailed: it could not be made what it should be; it is tried again.
	ReasonJoinFailed = "JoinFailed"
	// ReasonLeft: no group selects it any more.
	ReasonLeft = "Left"
	// ReasonConflicting: several groups select it, and the oldest has it.
	ReasonConflicting = "Conflicting"
)

// newRecorder returns a recorder of events that works until ctx ends.
func newRecorder(ctx context.Context, cfg *rest.Config, h *http.Client, scheme *runtime.Scheme) (events.EventRecorder, error) {
	c, err := eventsclient.NewForConfigAndClient(cfg, h)
	if err != nil {
		return nil, fmt.Errorf("prepare events: %w", err)
	}
	b := events.NewBroadcaster(&events.EventSinkImpl{Interface: c})
	if err := b.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, fmt.Errorf("prepare events: %w", err)
	}
	context.AfterFunc(ctx, b.Shutdown)
	return b.NewRecorder(scheme, FieldManager), nil
}

// event records an event on a pod. It does not block.
func (d *Daemon) event(p membership.PodRef, kind, reason, action, format string, args ...any) {
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}
	d.recorder.Eventf(ref, nil, kind, reason, action, format, args...)
}

// memberChanged tells of what became of a member. The engine calls it, one call at a time for one member.
func (d *Daemon) memberChanged(s stitch.Status) {
	d.metrics.Joined(s)
	if s.Group == "" {
		return // only swept
	}
	d.reports.add(s.Group)
	d.mu.Lock()
	defer d.mu.Unlock()
	uid := types.UID(s.ID)
	was := d.said[uid]
	d.said[uid] = s.State
	if s.State == stitch.Left {
		delete(d.said, uid)
	}
	p := d.byRuntime[uid]
	if p == nil || was == s.State {
		return
	}
	switch s.State {
	case stitch.Joined:
		if !s.Found {
			d.event(p.ref, corev1.EventTypeNormal, ReasonJoined, "Join", "joined EgressGroup %s in %v: it reaches the tailnet by this node's gateway", s.Group, s.Took().Round(time.Millisecond))
		}
	case stitch.Left:
		d.event(p.ref, corev1.EventTypeNormal, ReasonLeft, "Leave", "left EgressGroup %s", s.Group)
	case stitch.Failed:
		d.event(p.ref, corev1.EventTypeWarning, ReasonJoinFailed, "Join", "EgressGroup %s: %s; it is tried again", s.Group, shortened(s.Message))
	case stitch.Waiting:
		// Most wait for a moment only.
		time.AfterFunc(d.o.JoinWait, func() { d.tellWaiting(p, s) })
	}
}

// tellWaiting tells of a member that waits still.
func (d *Daemon) tellWaiting(p *pod, s stitch.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil || d.said[p.runtime] != stitch.Waiting || d.byRuntime[p.runtime] != p {
		return
	}
	d.event(p.ref, corev1.EventTypeWarning, ReasonWaiting, "Join", "waits to join EgressGroup %s: %s; until then its traffic to the tailnet is refused", s.Group, shortened(s.Message))
}

// tellConflict tells of a pod that more than one group selects. The caller holds d.mu.
func (d *Daemon) tellConflict(c membership.Change) {
	if c.After.State != membership.Member || len(c.After.Others) == 0 || slices.Equal(c.After.Others, c.Before.Others) && c.After.Group == c.Before.Group {
		return
	}
	names := make([]string, len(c.After.Others))
	for i, g := range c.After.Others {
		names[i] = g.Name
	}
	d.event(c.Pod, corev1.EventTypeWarning, ReasonConflicting, "Decide",
		"it belongs to EgressGroup %s, the oldest that selects it, and not to %s; narrow one of the selectors", c.After.Group.Name, shortened(strings.Join(names, ", ")))
}

// maxNote keeps an event's text within the API's 1,024 bytes, with what stands around it.
const maxNote = 600

func shortened(s string) string {
	if len(s) <= maxNote {
		return s
	}
	return strings.ToValidUTF8(s[:maxNote], "") + "…"
}
