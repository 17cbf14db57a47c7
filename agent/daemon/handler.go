package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// startGrace is how long after its start an agent lets requests wait for it to know its node. When the API server is away
// for longer, pods start as they would without an agent.
const startGrace = 10 * time.Second

// attachmentKey names an attachment of the runtime.
type attachmentKey struct{ containerID, ifName string }

// handler answers the plugin.
type handler Daemon

func (h *handler) daemon() *Daemon { return (*Daemon)(h) }

// Add returns when a member has its tailnet, or cannot reach anything another way.
func (h *handler) Add(ctx context.Context, q cnirpc.Request, pending func()) (bool, error) {
	d := h.daemon()
	if q.Pod.Name == "" || q.Pod.Namespace == "" {
		return false, nil // not a pod's: somebody else runs the plugin
	}
	if err := d.awaitSync(ctx); err != nil {
		return false, err
	}
	uid, err := d.identify(ctx, q)
	if err != nil || uid == "" {
		return false, err
	}
	claim := attachments.Claim{
		ContainerID: q.ContainerID, IfName: q.IfName, NetNS: q.Netns, PodUID: uid,
		Namespace: q.Pod.Namespace, Name: q.Pod.Name, IPs: addresses(q),
	}
	err = d.store.Add(claim)
	now := d.decision(uid)
	if now.State != membership.Member {
		// That its namespace is not known yet matters only should it become one, and by then it is in the runtime's cache.
		if now.State == membership.Undecided {
			err = fmt.Errorf("whether pod %s/%s is a member is not known yet: %s", q.Pod.Namespace, q.Pod.Name, now.Reason)
		}
		return false, err
	}
	pending()
	if err != nil {
		return true, &cnirpc.Error{Kind: cnirpc.TryAgain, Message: err.Error()}
	}
	d.remember(q)
	d.settle(uid)
	return d.awaitMember(ctx, uid)
}

// awaitMember waits until a member can send nothing another way, for as long as the plugin does, and then for its link, for as
// long as may be.
func (d *Daemon) awaitMember(ctx context.Context, uid types.UID) (bool, error) {
	s, err := d.engine.WaitClosed(ctx, string(uid))
	if err == nil {
		join, cancel := context.WithTimeout(ctx, d.o.JoinWait)
		defer cancel()
		s, err = d.engine.Wait(join, string(uid))
	}
	switch {
	case errors.Is(err, stitch.ErrUnknown):
		return false, nil // it stopped being one
	case err != nil:
		return true, &cnirpc.Error{Kind: cnirpc.TryAgain, Message: err.Error()}
	}
	return s.State != stitch.Left, nil
}

// awaitSync waits until the agent knows its node.
func (d *Daemon) awaitSync(ctx context.Context) error {
	if d.isSynced() {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, d.began.Add(startGrace))
	defer cancel()
	select {
	case <-d.synced:
		return nil
	case <-ctx.Done():
		return &cnirpc.Error{Kind: cnirpc.Unavailable, Message: "the agent has just started and does not know its node yet"}
	}
}

// identify returns the UID by which the runtime knows the request's pod, once membership can be decided: it asks the API
// server about a pod that the watch has not told of. "": there is no such pod any more.
func (d *Daemon) identify(ctx context.Context, q cnirpc.Request) (types.UID, error) {
	uid := types.UID(q.Pod.UID)
	d.mu.Lock()
	known := d.byRuntime[uid] != nil
	d.mu.Unlock()
	if !known {
		p := &corev1.Pod{}
		err := d.live.Get(ctx, client.ObjectKey{Namespace: q.Pod.Namespace, Name: q.Pod.Name}, p)
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("ask for pod %s/%s: %w", q.Pod.Namespace, q.Pod.Name, err)
		}
		if have := runtimeUID(p); uid == "" {
			uid = have
		} else if have != uid {
			return "", nil // another has its name by now
		}
		slim, err := slimPod(p)
		if err != nil {
			return "", err
		}
		d.mu.Lock()
		d.know(slim.(*corev1.Pod))
		d.mu.Unlock()
	}
	if d.decision(uid).Reason != membership.ReasonNamespaceUnknown {
		return uid, nil
	}
	ns := namespaceMetadata()
	if err := d.live.Get(ctx, client.ObjectKey{Name: q.Pod.Namespace}, ns); err != nil {
		return "", fmt.Errorf("ask for namespace %s: %w", q.Pod.Namespace, err)
	}
	d.setNamespace(ns)
	return uid, nil
}

// decision returns what a pod is, by the runtime's UID.
func (d *Daemon) decision(uid types.UID) membership.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.byRuntime[uid]
	if p == nil {
		return membership.Decision{}
	}
	return d.model.Of(p.ref.UID)
}

// addresses returns the pod's own of a previous result.
func addresses(q cnirpc.Request) []netip.Addr {
	var own []netip.Addr
	for _, ip := range q.IPs {
		if ip.Interface != nil && *ip.Interface >= 0 && *ip.Interface < len(q.Interfaces) && q.Interfaces[*ip.Interface].Sandbox == "" {
			continue // the node's side
		}
		if ip.Address.IsValid() {
			own = append(own, ip.Address.Addr())
		}
	}
	return own
}

// remember notes the network of an attachment, for GC.
func (d *Daemon) remember(q cnirpc.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.networks[attachmentKey{q.ContainerID, q.IfName}] = q.Network
}

// Del forgets an attachment.
func (h *handler) Del(_ context.Context, q cnirpc.Request) error {
	h.daemon().forget(attachmentKey{q.ContainerID, q.IfName})
	return nil
}

func (d *Daemon) forget(k attachmentKey) {
	d.mu.Lock()
	delete(d.networks, k)
	d.mu.Unlock()
	d.store.Delete(k.containerID, k.ifName) // which has its pod looked at
}

// Check says what a member lacks.
func (h *handler) Check(ctx context.Context, q cnirpc.Request) (bool, error) {
	d := h.daemon()
	if err := d.awaitSync(ctx); err != nil {
		return false, err
	}
	uid, err := d.identify(ctx, q)
	if err != nil || d.decision(uid).State != membership.Member {
		return false, err
	}
	in, err := d.engine.Inspect(string(uid))
	if err != nil {
		return true, &cnirpc.Error{Kind: cnirpc.Missing, Message: err.Error()}
	}
	if in.InPlace() {
		return true, nil
	}
	table := ""
	if !in.TableEqual {
		table = " its nftables table is another;"
	}
	return true, &cnirpc.Error{Kind: cnirpc.Missing, Message: fmt.Sprintf(
		"pod %s/%s is not as its group wants it:%s in its network namespace %v, at its gateway %v", q.Pod.Namespace, q.Pod.Name, table, in.Member.Plan, in.Gateway.Plan)}
}

// GC forgets the attachments of a network that are not in use. Of those made before this agent started the network is not
// known: they go with their namespaces, as all do.
func (h *handler) GC(_ context.Context, q cnirpc.Request) error {
	d := h.daemon()
	valid := map[attachmentKey]bool{}
	for _, a := range q.ValidAttachments {
		valid[attachmentKey{a.ContainerID, a.IfName}] = true
	}
	var stale []attachmentKey
	d.mu.Lock()
	for k, network := range d.networks {
		if network == q.Network && !valid[k] {
			stale = append(stale, k)
		}
	}
	d.mu.Unlock()
	for _, k := range stale {
		d.forget(k)
	}
	return nil
}

// Status says whether an ADD could be served.
func (h *handler) Status(context.Context) error {
	if !h.daemon().isSynced() {
		return &cnirpc.Error{Kind: cnirpc.Unavailable, Message: "the agent does not know its node yet: it waits for the Kubernetes API"}
	}
	return nil
}
