package daemon

import (
	"context"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// gateway is a group's gateway on this node and who listens to it. Its fields are guarded by the daemon's lock.
type gateway struct {
	pod    string // namespace/name
	netns  stitch.NetNS
	socket string
	stop   context.CancelFunc
	// snapshot is the newest; nil: it has said nothing, or does not answer any more, which err says why.
	snapshot *snapshot.Snapshot
	heard    time.Time
	err      error
}

// The pauses between tries to reach a gateway that does not answer. That its socket is there again no event tells that a
// mount from the node would pass on for sure, and a try costs next to nothing.
const (
	listenFirst = 50 * time.Millisecond
	listenMost  = 500 * time.Millisecond
)

// settleGroup looks where a group's gateway is. It is called by the queue.
func (d *Daemon) settleGroup(name string) {
	d.mu.Lock()
	uids := make(map[types.UID]bool)
	for _, p := range d.pods {
		if p.gatewayOf == name {
			uids[p.runtime] = true
		}
	}
	d.mu.Unlock()
	where := map[types.UID]attachments.Attachment{}
	for uid := range uids {
		if a, ok := d.store.Lookup(uid); ok {
			where[uid] = a
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started {
		d.setGateway(name, where)
	}
}

// setGateway tells the engine where a group's gateway is: in the newest of its pods that has a sandbox. An update has two for a
// moment. The caller holds d.mu.
func (d *Daemon) setGateway(name string, where map[types.UID]attachments.Attachment) {
	var best *pod
	for _, p := range d.pods {
		if _, ok := where[p.runtime]; ok && p.gatewayOf == name && !p.finished && (best == nil || p.created > best.created) {
			best = p
		}
	}
	have := d.gateways[name]
	if best == nil {
		if have != nil {
			d.dropGateway(name)
			d.engine.RemoveGateway(name)
			d.reports.add(name)
		}
		return
	}
	a := where[best.runtime]
	if have != nil && have.netns.ID == a.ID {
		return
	}
	if have != nil {
		d.dropGateway(name)
	}
	ctx, stop := context.WithCancel(d.ctx)
	g := &gateway{
		pod: best.ref.String(), netns: stitch.NetNS{Path: a.NetNS, ID: a.ID}, stop: stop,
		socket: filepath.Join(d.o.GatewayFolders, v1alpha1.GroupObjectName(name), ident.SnapshotSocket),
	}
	d.gateways[name] = g
	d.engine.SetGateway(name, stitch.Gateway{NetNS: g.netns})
	d.reports.add(name)
	d.following.Go(func() { d.listen(ctx, name, g) })
}

// dropGateway stops listening to a group's gateway. The caller holds d.mu.
func (d *Daemon) dropGateway(name string) {
	if g := d.gateways[name]; g != nil {
		g.stop()
		delete(d.gateways, name)
	}
}

// listen passes on what a gateway says of itself, until ctx ends.
func (d *Daemon) listen(ctx context.Context, name string, g *gateway) {
	pause := listenFirst
	again := time.NewTimer(pause)
	defer again.Stop()
	for {
		err := snapshot.Watch(ctx, g.socket, func(s snapshot.Snapshot) bool {
			pause = listenFirst
			d.hear(name, g, &s, nil)
			return true
		})
		if ctx.Err() != nil {
			return
		}
		d.hear(name, g, nil, err)
		again.Reset(pause)
		pause = min(2*pause, listenMost)
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// hear takes what a gateway said, or why it says nothing.
func (d *Daemon) hear(name string, g *gateway, s *snapshot.Snapshot, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gateways[name] != g {
		return // another has its place
	}
	news := s != nil || g.snapshot != nil || g.err == nil
	g.snapshot, g.err = s, err
	if s != nil {
		g.heard = time.Now()
	}
	if !news {
		return
	}
	d.engine.SetGateway(name, stitch.Gateway{NetNS: g.netns, Snapshot: s})
	d.reports.add(name)
}
