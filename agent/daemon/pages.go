package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/debug"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/agent/stitch"
)

// servePages serves what people and probes look at, until ctx ends.
func (d *Daemon) servePages(ctx context.Context) error {
	pages := debug.New(debug.Options{Source: (*source)(d), Node: d.o.Node, Version: d.o.Version, Registry: d.o.Registry})
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range []struct {
		addr    string
		handler http.Handler
	}{{d.o.PublicAddr, pages.Public()}, {d.o.DebugAddr, pages.Debug()}} {
		if s.addr != "" {
			g.Go(func() error { return servePage(ctx, s.addr, s.handler) })
		}
	}
	return g.Wait()
}

func servePage(ctx context.Context, addr string, h http.Handler) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve pages: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve pages at %s: %w", addr, err)
	}
	return nil
}

// source is the daemon as its pages see it.
type source Daemon

func (s *source) Report() stitch.Report                        { return s.engine.Snapshot() }
func (s *source) Inspect(id string) (joiner.Inspection, error) { return s.engine.Inspect(id) }
func (s *source) Install() install.Status                      { return s.installer.Status() }

func (s *source) Attachments() ([]attachments.Attachment, attachments.Stats, []error) {
	return s.store.List(), s.store.Stats(), s.store.Problems()
}

func (s *source) ClusterCIDRs() []netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cidrs)
}

func (s *source) Gateways() []debug.GatewayView {
	s.mu.Lock()
	defer s.mu.Unlock()
	var views []debug.GatewayView
	for _, name := range slices.Sorted(maps.Keys(s.gateways)) {
		g := s.gateways[name]
		views = append(views, debug.GatewayView{
			Group: name, Pod: g.pod, NetNS: g.netns.Path, Socket: g.socket, Snapshot: g.snapshot, Heard: g.heard, Err: g.err,
		})
	}
	return views
}

func (s *source) Pods() []debug.PodView {
	where := map[string]attachments.Attachment{}
	for _, a := range s.store.List() {
		where[string(a.PodUID)] = a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var views []debug.PodView
	for _, p := range s.pods {
		now, a := s.model.Of(p.ref.UID), where[string(p.runtime)]
		v := debug.PodView{
			Name: p.ref.String(), UID: string(p.runtime), State: now.State.String(), Group: now.Group.Name, Reason: string(now.Reason),
			ContainerID: a.ContainerID, NetNS: a.NetNS,
		}
		for _, o := range now.Others {
			v.Others = append(v.Others, o.Name)
		}
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b debug.PodView) int { return strings.Compare(a.Name, b.Name) })
	return views
}

func (s *source) Ready() error {
	if !(*Daemon)(s).isSynced() {
		return errors.New("the agent does not know its node yet: it waits for the Kubernetes API")
	}
	return nil
}
