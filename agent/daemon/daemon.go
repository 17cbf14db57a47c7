package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/debug"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/server"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Daemon is the agent. Make it with [New].
type Daemon struct {
	o   Options
	log *slog.Logger
	// cache is what is watched; live reads from the server, and writes.
	cache     cache.Cache
	live      client.Client
	http      *http.Client
	store     *attachments.Store
	engine    *stitch.Engine
	installer *install.Installer
	server    *server.Server
	metrics   *debug.Metrics
	recorder  events.EventRecorder
	queue     *queue
	reports   *reports
	began     time.Time
	// synced is closed when all that there is was heard once.
	synced chan struct{}
	// ctx is the daemon's own: of what it does for nobody's request.
	ctx  context.Context
	stop context.CancelFunc
	// following are the goroutines that listen to gateways.
	following sync.WaitGroup

	mu        sync.Mutex
	started   bool // the engine is told what is heard
	model     *membership.Model
	pods      map[types.UID]*pod         // of the API, by its UID
	byRuntime map[types.UID]*pod         // the same by the runtime's UID
	stitched  map[types.UID]string       // group of those the engine has, by the runtime's UID
	said      map[types.UID]stitch.State // what was told of members last, by the runtime's UID
	groups    map[string]*v1alpha1.EgressGroup
	inEngine  map[string]bool // groups that the engine was told of
	gateways  map[string]*gateway
	nodes     map[string][]netip.Prefix
	services  map[string][]netip.Prefix
	cidrs     []netip.Prefix
	// daemonSet says whether the agent's own DaemonSet is there, as far as is known.
	daemonSet presence
	networks  map[attachmentKey]string // CNI network of attachments that this agent saw made
}

// New prepares an agent: it listens for the plugin and asks the API server for the kinds that it serves.
func New(ctx context.Context, o Options) (d *Daemon, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	d = &Daemon{
		o: o, log: o.Logger, synced: make(chan struct{}), began: time.Now(),
		model: membership.New(membership.Options{OwnNamespace: o.Namespace, OwnLabels: map[string]string{labelPartOf: partOf}}),
		pods:  map[types.UID]*pod{}, byRuntime: map[types.UID]*pod{}, stitched: map[types.UID]string{}, said: map[types.UID]stitch.State{},
		groups: map[string]*v1alpha1.EgressGroup{}, inEngine: map[string]bool{}, gateways: map[string]*gateway{},
		nodes: map[string][]netip.Prefix{}, services: map[string][]netip.Prefix{}, networks: map[attachmentKey]string{},
	}
	d.ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	d.queue = newQueue(d.settle, d.settleGroup)
	if err := d.connect(); err != nil {
		return nil, err
	}
	d.metrics = debug.NewMetrics(o.Registry)
	d.reports = newReports(d)
	attach := o.Attachments
	attach.OnChange, attach.Logger = d.queue.add, o.Logger
	if d.store, err = attachments.New(attach); err != nil {
		return nil, err
	}
	d.engine = stitch.New(stitch.Options{Changed: d.memberChanged, GroupChanged: d.reports.add, Logger: o.Logger})
	plugin := o.Install
	plugin.Logger = o.Logger
	if d.installer, err = install.New(plugin); err != nil {
		d.close()
		return nil, err
	}
	d.server, err = server.New(server.Options{Socket: o.Socket, Handler: (*handler)(d), Observe: d.metrics.Request, Logger: o.Logger})
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// connect makes the clients.
func (d *Daemon) connect() error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	cfg := *d.o.Config
	cfg.QPS = -1 // the server has its own priority and fairness
	httpClient, err := rest.HTTPClientFor(&cfg)
	if err != nil {
		return fmt.Errorf("reach the Kubernetes API: %w", err)
	}
	d.http = httpClient
	mapper, err := apiutil.NewDynamicRESTMapper(&cfg, httpClient)
	if err != nil {
		return fmt.Errorf("ask the Kubernetes API for its kinds: %w", err)
	}
	co := cacheOptions(d.o, scheme)
	co.HTTPClient, co.Mapper = httpClient, mapper
	if d.cache, err = cache.New(&cfg, co); err != nil {
		return fmt.Errorf("prepare watches: %w", err)
	}
	if d.live, err = client.New(&cfg, client.Options{Scheme: scheme, HTTPClient: httpClient, Mapper: mapper}); err != nil {
		return fmt.Errorf("prepare client: %w", err)
	}
	d.recorder, err = newRecorder(d.ctx, &cfg, httpClient, scheme)
	return err
}

// close ends what New began.
func (d *Daemon) close() {
	d.stop()
	d.following.Wait()
	d.engine.Close()
	d.store.Close()
	d.http.CloseIdleConnections()
}

// Run works until ctx ends, and then lets the requests under way finish. Members stay joined. When the agent's DaemonSet is gone
// by then, the plugin is taken out.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.close()
	// Watches outlive ctx by a little: the end of the DaemonSet may be told only now.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var ended sync.WaitGroup
	defer ended.Wait()
	defer stop()

	g, ctx := errgroup.WithContext(ctx)
	w := &watches{}
	if err := d.follow(ctx, w); err != nil {
		return err
	}
	g.Go(func() error { return failed("follow the runtime's attachments", d.store.Run(ctx)) })
	g.Go(func() error { return failed("keep the plugin installed", d.installer.Run(ctx)) })
	g.Go(func() error { return failed("serve the plugin", d.server.Run(ctx)) })
	g.Go(func() error { return d.servePages(ctx) })
	watched := make(chan error, 1)
	ended.Go(func() { watched <- d.cache.Start(watching) })
	g.Go(func() error {
		select {
		case err := <-watched:
			return failed("watch the Kubernetes API", err)
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		if d.awaitAll(ctx, w) {
			d.begin() //nolint:contextcheck // who listens to gateways does so for as long as the daemon is there
			d.reports.run(ctx)
		}
		return nil
	})
	g.Go(func() error { d.queue.run(ctx); return nil })
	return errors.Join(g.Wait(), d.uninstall(watching))
}

func failed(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// follow registers what is to be heard of each kind.
func (d *Daemon) follow(ctx context.Context, w *watches) error {
	errs := []error{
		follow(ctx, w, d.cache, &corev1.Pod{}, d.setPod, d.podGone),
		follow(ctx, w, d.cache, namespaceMetadata(), d.setNamespace, d.namespaceGone),
		follow(ctx, w, d.cache, &v1alpha1.EgressGroup{}, d.setGroup, d.groupGone),
		follow(ctx, w, d.cache, &corev1.Node{}, d.setNode, d.nodeGone),
		follow(ctx, w, d.cache, &v1alpha1.EgressGateway{}, d.reports.heard, d.reports.heard),
	}
	if d.o.DaemonSet != "" {
		errs = append(errs, follow(ctx, w, d.cache, daemonSetMetadata(), d.setDaemonSet, d.daemonSetGone))
	}
	if len(d.o.ClusterCIDRs) == 0 {
		err := follow(ctx, w, d.cache, &networkingv1.ServiceCIDR{}, d.setServiceCIDR, d.serviceCIDRGone)
		if meta.IsNoMatchError(err) {
			d.log.Warn("this cluster has no ServiceCIDR objects (Kubernetes 1.33 has), so members with an exit node may not reach services; set TAILGATE_CLUSTER_CIDRS to the cluster's pod and service CIDRs")
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// awaitAll waits until everything was heard once; false: ctx has ended.
func (d *Daemon) awaitAll(ctx context.Context, w *watches) bool {
	if !w.synced(ctx) {
		return false
	}
	select {
	case <-d.store.Synced():
		return true
	case <-ctx.Done():
		return false
	}
}

// begin tells the engine all that was heard. From here on it hears of each change.
func (d *Daemon) begin() {
	// Outside of the lock: it is the runtime's cache that is asked.
	where := map[types.UID]attachments.Attachment{}
	for _, a := range d.store.List() {
		where[a.PodUID] = a
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.model.GroupsSynced()
	d.started = true
	d.tellCIDRs()
	for _, p := range d.pods {
		if p.gatewayOf != "" {
			d.setGateway(p.gatewayOf, where)
		}
	}
	for _, p := range d.pods {
		a, ok := where[p.runtime]
		d.place(p, a, ok, true)
		d.tellConflict(membership.Change{Pod: p.ref, After: d.model.Of(p.ref.UID)})
	}
	d.engine.Synced()
	close(d.synced)
	// What came between the list and the lock.
	for uid := range where {
		d.queue.add(uid)
	}
	for uid := range d.byRuntime {
		d.queue.add(uid)
	}
	for name := range d.groups {
		d.reports.add(name)
	}
	d.log.Info("the agent knows its node", "node", d.o.Node, "pods", len(d.pods), "groups", len(d.groups), "members", len(d.stitched),
		"took", time.Since(d.began).Round(time.Millisecond))
}

// isSynced reports whether all was heard once.
func (d *Daemon) isSynced() bool {
	select {
	case <-d.synced:
		return true
	default:
		return false
	}
}

// act places the pods whose membership changed. The caller holds d.mu.
func (d *Daemon) act(changes []membership.Change) {
	if !d.started {
		return
	}
	for _, c := range changes {
		if p := d.pods[c.Pod.UID]; p != nil {
			d.queue.add(p.runtime)
		}
		d.tellConflict(c)
		for _, g := range concerned(c) {
			d.reports.add(g)
		}
	}
}

// concerned returns the groups whose report a change is in.
func concerned(c membership.Change) []string {
	var names []string
	for _, x := range []membership.Decision{c.Before, c.After} {
		if x.Group.Name != "" {
			names = append(names, x.Group.Name)
		}
		for _, o := range x.Others {
			names = append(names, o.Name)
		}
	}
	return names
}

func (d *Daemon) setNamespace(ns *metav1.PartialObjectMetadata) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.act(d.model.SetNamespace(membership.Namespace{Name: ns.Name, Labels: ns.Labels}))
}

func (d *Daemon) namespaceGone(ns *metav1.PartialObjectMetadata) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.act(d.model.DeleteNamespace(ns.Name))
}
