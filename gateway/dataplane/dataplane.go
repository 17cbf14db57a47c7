package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Options say which namespace and device. All are needed but Logger.
type Options struct {
	// NS is the gateway's network namespace; it stays the caller's.
	NS *netns.Handle
	// TUN is the tunnel device's name.
	TUN string
	// TxQueueLen is that of the TUN, in packets; 0 leaves it alone.
	TxQueueLen int
	// Logger; nil is slog.Default.
	Logger *slog.Logger
}

// Dataplane is the kernel side of one gateway.
type Dataplane struct {
	o     Options
	log   *slog.Logger
	ns    *kernel.Namespace
	nft   *ruleset.Conn
	scope netstate.Scope

	apply sync.Mutex // one at a time; held while the kernel is changed

	mu       sync.Mutex
	notify   func() // see Notify; nil: nobody
	attached bool
	intent   topology.Gateway
	status   Status
}

// Status says how far the kernel is as wanted.
type Status struct {
	// Wanted is the intent in force.
	Wanted topology.Gateway
	// Applied counts the changes made since the start, by operation: "route add", "nftables".
	Applied map[string]int
	// Repairs counts the times that the kernel was found changed by somebody else.
	Repairs int
	// LastApply is when the kernel was last changed; zero: never.
	LastApply time.Time
	// Err is why the kernel is not as wanted; nil: it is.
	Err error
	// attached: somebody looked at all.
	attached bool
}

// InPlace reports whether the kernel holds all that is wanted.
func (s Status) InPlace() bool { return s.attached && s.Err == nil }

// Problem is Err as a sentence; "" when there is none.
func (s Status) Problem() string {
	if s.Err == nil {
		return ""
	}
	return "the kernel is not as wanted: " + s.Err.Error()
}

// New opens the namespace. Close ends what New opened; the kernel's state stays.
func New(o Options) (*Dataplane, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ns, err := kernel.Open(o.NS, kernel.Options{})
	if err != nil {
		return nil, err
	}
	nft, err := ruleset.Open(o.NS.FD())
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &Dataplane{
		o: o, log: o.Logger, ns: ns, nft: nft,
		scope:  topology.GatewayScope(o.TUN),
		intent: topology.Gateway{TUN: o.TUN, TxQueueLen: o.TxQueueLen},
		status: Status{Applied: make(map[string]int)},
	}, nil
}

// Close releases the namespace.
func (d *Dataplane) Close() error {
	d.ns.Close()
	return d.nft.Close()
}

// Notify has fn called whenever the kernel ceases to be as wanted, or is so again. fn must not
// block, and must not call back.
func (d *Dataplane) Notify(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notify = fn
}

// Attach takes over what a process before this one left on the TUN, which must be
// there, and puts the rest in place: from here on nothing is forwarded that should not be.
// Addresses and routes stay as found until the first [Dataplane.Set].
func (d *Dataplane) Attach() error {
	d.apply.Lock()
	defer d.apply.Unlock()
	have, err := d.ns.Observe(d.scope)
	if err != nil {
		return fmt.Errorf("look at the kernel: %w", err)
	}
	d.mu.Lock()
	d.attached = true
	d.intent = adopt(d.intent, have)
	d.mu.Unlock()
	_, err = d.reconcile()
	return err
}

// adopt returns the intent that the state found would be the result of.
func adopt(g topology.Gateway, have netstate.State) topology.Gateway {
	for _, a := range have.Addrs {
		g.Addrs = append(g.Addrs, a.Prefix)
	}
	for _, r := range have.Routes {
		if r.Table == ident.TableGateway && r.Type == netstate.Unicast && r.Link == g.TUN {
			g.Routes = append(g.Routes, r.Dst)
		}
	}
	return g
}

// Set makes g the intent and applies it. TUN and TxQueueLen are the options'.
func (d *Dataplane) Set(g topology.Gateway) error {
	g.TUN, g.TxQueueLen = d.o.TUN, d.o.TxQueueLen
	d.apply.Lock()
	defer d.apply.Unlock()
	d.mu.Lock()
	d.intent = g
	attached := d.attached
	d.mu.Unlock()
	if !attached {
		return nil
	}
	_, err := d.reconcile()
	return err
}

// reconcile is observe, diff, apply; changed is whether it did what was to be done. The caller holds d.apply.
func (d *Dataplane) reconcile() (changed bool, err error) {
	d.mu.Lock()
	g := d.intent
	d.mu.Unlock()

	// The filter first: routes without it would let a neighbour in.
	filtered, nftErr := d.nft.Apply(g.Ruleset())
	plan, err := d.plan(g)
	if err == nil {
		err = d.ns.Apply(plan)
	}
	if err == nil && slices.ContainsFunc(plan, addsAddr) {
		// Peers' answers come for it as soon as the tailnet is told.
		err = d.ns.AwaitReady(g.TUN)
	}
	err = errors.Join(nftErr, err)

	d.mu.Lock()
	defer d.mu.Unlock()
	if (err == nil) != (d.status.Err == nil) && d.notify != nil {
		d.notify()
	}
	if err != nil && (d.status.Err == nil || d.status.Err.Error() != err.Error()) {
		d.log.Error("kernel not as wanted", "err", err)
	}
	d.status.Err = err
	if err != nil {
		return false, err
	}
	changed = filtered || !plan.Empty()
	if changed {
		d.status.LastApply = time.Now()
		d.log.Debug("kernel changed", "plan", plan.String(), "nftables", filtered)
	}
	if filtered {
		d.status.Applied["nftables"]++
	}
	for _, op := range plan {
		d.status.Applied[opName(op)]++
	}
	return changed, nil
}

func addsAddr(op netstate.Op) bool {
	_, is := op.(netstate.AddrAdd)
	return is
}

func (d *Dataplane) plan(g topology.Gateway) (netstate.Plan, error) {
	have, err := d.ns.Observe(d.scope)
	if err != nil {
		return nil, fmt.Errorf("look at the kernel: %w", err)
	}
	return netstate.Diff(have, g.State()), nil
}

// opName is the operation's type, as in "RouteAdd".
func opName(op netstate.Op) string { return reflect.TypeOf(op).Name() }

// minInterval bounds how often notifications make us look, for a node on which
// members come and go by the hundred: each brings a few of them.
const minInterval = 100 * time.Millisecond

// retryInterval is how soon we look again while the kernel is not as wanted: what was in the way may go without
// a notification, as when the agent writes the sysctls that a gateway cannot.
const retryInterval = time.Second

// Run heals what others change until ctx ends, then nil.
func (d *Dataplane) Run(ctx context.Context) error {
	for {
		changed, err := d.ns.Subscribe(ctx)
		if err != nil {
			return fmt.Errorf("follow the kernel: %w", err)
		}
		d.follow(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		d.log.Warn("the kernel ended the subscription to its changes; subscribing again")
	}
}

// follow heals now, for what happened before the subscription, and at each wake-up until
// the channel closes.
func (d *Dataplane) follow(ctx context.Context, changed <-chan struct{}) {
	pause, retry := time.NewTimer(minInterval), time.NewTicker(retryInterval)
	defer pause.Stop()
	defer retry.Stop()
	d.heal()
	for {
		select {
		case _, open := <-changed:
			if !open {
				return
			}
		case <-retry.C:
			if d.Status().Err == nil {
				continue
			}
		}
		d.heal()
		pause.Reset(minInterval)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

func (d *Dataplane) heal() {
	d.apply.Lock()
	defer d.apply.Unlock()
	d.mu.Lock()
	attached := d.attached
	d.mu.Unlock()
	if !attached {
		return
	}
	if changed, _ := d.reconcile(); changed { // the error is in the status, and was logged there
		d.mu.Lock()
		d.status.Repairs++
		d.mu.Unlock()
		d.log.Warn("repaired what somebody else changed in the gateway's network namespace")
	}
}

// Status returns what is known without looking at the kernel.
func (d *Dataplane) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	s.attached = d.attached
	s.Wanted = d.intent
	s.Applied = make(map[string]int, len(d.status.Applied))
	for k, v := range d.status.Applied {
		s.Applied[k] = v
	}
	return s
}

// Inspection is the kernel as wanted and as it is.
type Inspection struct {
	Desired, Observed netstate.State
	Plan              netstate.Plan // what would be changed; empty: nothing
	// DesiredTable and ObservedTable are in nft's syntax.
	DesiredTable, ObservedTable string
}

// Inspect looks at the kernel and changes nothing.
func (d *Dataplane) Inspect() (Inspection, error) {
	d.mu.Lock()
	g := d.intent
	d.mu.Unlock()
	have, err := d.ns.Observe(d.scope)
	if err != nil {
		return Inspection{}, fmt.Errorf("look at the kernel: %w", err)
	}
	table, _, err := d.nft.Observe(ident.NFTable)
	if err != nil {
		return Inspection{}, fmt.Errorf("look at nftables: %w", err)
	}
	want := g.State()
	return Inspection{
		Desired: want.Sorted(), Observed: have.Sorted(), Plan: netstate.Diff(have, want),
		DesiredTable: g.Ruleset().String(), ObservedTable: table.String(),
	}, nil
}

// Counters are the gateway's packet counts.
type Counters struct {
	// Members are the member links, by name.
	Members []kernel.LinkStats
	// TUN is the tunnel's, if it is there.
	TUN []kernel.LinkStats
	// Dropped are the nftables counters, one a reason.
	Dropped []ruleset.Counter
	// ConntrackUsed and ConntrackMax are of this network namespace.
	ConntrackUsed, ConntrackMax int
}

// Counters reads the counts; what cannot be read is zero, with an error.
func (d *Dataplane) Counters() (Counters, error) {
	var c Counters
	var errs [4]error
	c.Members, errs[0] = d.ns.LinkStats([]string{ident.GatewayLinkPrefix + "*"})
	c.TUN, errs[1] = d.ns.LinkStats([]string{d.o.TUN})
	c.Dropped, errs[2] = d.nft.Counters(ident.NFTable)
	c.ConntrackUsed, c.ConntrackMax, errs[3] = d.ns.Conntrack()
	slices.SortFunc(c.Members, func(a, b kernel.LinkStats) int {
		x, _ := ident.Slot(a.Name)
		y, _ := ident.Slot(b.Name)
		return x - y
	})
	return c, errors.Join(errs[:]...)
}
