package daemon

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// By these labels tailgate's own pods are known in its namespace.
const (
	labelPartOf = "app.kubernetes.io/part-of"
	partOf      = "tailgate"
)

// pod is a pod of the node, as far as the daemon needs to know it.
type pod struct {
	ref     membership.PodRef
	runtime types.UID
	// gatewayOf is the group whose gateway the pod is; "": it is none.
	gatewayOf string
	created   int64 // Unix seconds
	finished  bool
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// gatewayOf returns the group whose gateway p is. Only tailgate's own namespace counts: anybody may write labels.
func (d *Daemon) gatewayOf(p *corev1.Pod) string {
	if p.Namespace != d.o.Namespace || p.Labels[v1alpha1.LabelName] != v1alpha1.GatewayPodName {
		return ""
	}
	group := p.Annotations[v1alpha1.AnnotationGroup]
	if p.Labels[v1alpha1.LabelGroup] != v1alpha1.GroupKey(group) {
		return ""
	}
	return group
}

func (d *Daemon) setPod(p *corev1.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.know(p)
}

// know makes a pod of the API known. The caller holds d.mu.
func (d *Daemon) know(p *corev1.Pod) {
	now := d.pods[p.UID]
	if now == nil {
		now = &pod{ref: membership.PodRef{UID: p.UID, Namespace: p.Namespace, Name: p.Name}, created: p.CreationTimestamp.Unix()}
		d.pods[p.UID] = now
	}
	now.runtime, now.gatewayOf = runtimeUID(p), d.gatewayOf(p)
	d.byRuntime[now.runtime] = now
	changes := d.model.SetPod(membership.Pod{
		UID: p.UID, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels,
		HostNetwork: p.Spec.HostNetwork, Finished: finished(p),
	})
	if now.gatewayOf != "" && d.started && now.finished != finished(p) {
		d.queue.add(now.runtime)
	}
	now.finished = finished(p)
	d.act(changes)
}

// podGone forgets a pod of the API. Its sandbox may outlive it: see [Daemon.settle].
func (d *Daemon) podGone(p *corev1.Pod) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.act(d.model.DeletePod(p.UID))
	known := d.pods[p.UID]
	if known == nil {
		return
	}
	delete(d.pods, p.UID)
	if d.byRuntime[known.runtime] == known { // a mirror pod made anew has the same
		delete(d.byRuntime, known.runtime)
	}
	if d.started {
		d.queue.add(known.runtime)
		if known.gatewayOf != "" {
			d.queue.addGroup(known.gatewayOf)
		}
	}
}

// settle looks where a pod's sandbox is, and tells the engine what the pod is to be. It is called by the queue.
func (d *Daemon) settle(uid types.UID) {
	a, ok := d.store.Lookup(uid)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started {
		return
	}
	p := d.byRuntime[uid]
	switch {
	case p != nil:
		d.place(p, a, ok, false)
		if p.gatewayOf != "" {
			d.queue.addGroup(p.gatewayOf)
		}
	case !ok:
		d.unstitch(uid)
	}
	// Else the API has forgotten it, and its sandbox is still there: what runs in it stays kept in.
}

// place tells the engine what a pod is to be, whose sandbox is at a, if ok. first: it was there before the
// agent. The caller holds d.mu.
func (d *Daemon) place(p *pod, a attachments.Attachment, ok, first bool) {
	switch now := d.model.Of(p.ref.UID); {
	case !ok:
		d.unstitch(p.runtime)
	case now.State == membership.Member:
		d.stitch(p, a, now.Group.Name)
	case now.State == membership.Outside && first && now.Reason == membership.ReasonNotSelected:
		// It may have been a member when an agent before this one last looked. Tailgate's own pods never were, and what
		// is in a gateway's namespace is the gateway's.
		d.engine.SetMember(d.member(p, a, ""))
		d.engine.RemoveMember(string(p.runtime))
	case now.State == membership.Outside:
		d.unstitch(p.runtime)
	}
}

func (d *Daemon) stitch(p *pod, a attachments.Attachment, group string) {
	g := d.groups[group]
	if g == nil {
		return // its end is on the way
	}
	if !d.inEngine[group] {
		d.inEngine[group] = true
		d.engine.SetGroup(groupFor(g))
	}
	d.engine.SetMember(d.member(p, a, group))
	d.stitched[p.runtime] = group
}

func (d *Daemon) member(p *pod, a attachments.Attachment, group string) stitch.Member {
	return stitch.Member{
		ID: string(p.runtime), Name: p.ref.String(), NetNS: stitch.NetNS{Path: a.NetNS, ID: a.ID},
		Group: group, Resolvers: d.o.Resolvers,
	}
}

// unstitch has a member leave, if it is one. The caller holds d.mu.
func (d *Daemon) unstitch(uid types.UID) {
	if _, ok := d.stitched[uid]; ok {
		delete(d.stitched, uid)
		d.engine.RemoveMember(string(uid))
	}
}

func (d *Daemon) setGroup(g *v1alpha1.EgressGroup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups[g.Name] = g
	changes, err := d.model.SetGroup(membership.Group{
		Name: g.Name, UID: g.UID, Created: g.CreationTimestamp.Time, Selector: g.Spec.Selector, Deleting: !g.DeletionTimestamp.IsZero(),
	})
	if err != nil {
		d.log.Warn("a group's selector is not valid", "group", g.Name, "err", err) // admission refuses those
	}
	if d.inEngine[g.Name] && g.DeletionTimestamp.IsZero() {
		d.engine.SetGroup(groupFor(g))
	}
	d.act(changes)
	if d.started {
		d.reports.add(g.Name)
	}
}

func (d *Daemon) groupGone(g *v1alpha1.EgressGroup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.groups, g.Name)
	changes := d.model.DeleteGroup(g.Name)
	if d.inEngine[g.Name] {
		delete(d.inEngine, g.Name)
		d.engine.RemoveGroup(g.Name)
		// Another group may get the name, and the gateway with it.
		d.dropGateway(g.Name)
		d.queue.addGroup(g.Name)
	}
	d.act(changes)
	if d.started {
		d.reports.add(g.Name)
	}
}

// groupFor returns a group as the engine takes it.
func groupFor(g *v1alpha1.EgressGroup) stitch.Group {
	want := stitch.Group{Name: g.Name, MagicDNS: g.Spec.DNS != nil && g.Spec.DNS.MagicDNS}
	if g.Spec.Mode == v1alpha1.ModeSubnet {
		want.Mirror = len(g.Spec.Routes) == 0
		for _, r := range g.Spec.Routes {
			if p, err := netip.ParsePrefix(r); err == nil { // admission refuses others
				want.Prefixes = append(want.Prefixes, p)
			}
		}
		slices.SortFunc(want.Prefixes, netip.Prefix.Compare)
	}
	if g.Spec.ExitNode != nil {
		want.Exit = &stitch.Exit{} // what the gateway's LAN is, the gateway says
	}
	return want
}
