package tailnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// Options configure a [Tailnet].
type Options struct {
	// Addr is the address that every listener is bound to. The zero value is 127.0.0.1.
	Addr netip.Addr
	// Told is the address that nodes and callers are told, such as that of a Service in front of Addr, with the
	// same ports. The zero value is Addr.
	Told netip.Addr
	// Listen opens TCP listeners, perhaps in another network namespace; nil: [net.Listen].
	Listen func(network, addr string) (net.Listener, error)
	// ListenPacket opens UDP sockets likewise; nil: [net.ListenPacket].
	ListenPacket func(network, addr string) (net.PacketConn, error)
	// Ports of the listeners; 0 takes a free one, which [Tailnet.ControlURL] and
	// [Tailnet.APIURL] tell.
	ControlPort, DERPPort, STUNPort, APIPort int
	// Domain is the MagicDNS domain; "": "tail.test".
	Domain string
	// AutoApprove approves every route that a node advertises.
	AutoApprove bool
	// MachineKey is the control plane's. With the one it had before, it is to nodes the same control plane again, which has
	// forgotten them. Zero: a new one.
	MachineKey key.MachinePrivate
	// Logf receives what a person debugging a test wants to know; nil discards it.
	Logf func(format string, args ...any)
}

// Tailnet is a running tailnet. Its methods are safe for concurrent use.
type Tailnet struct {
	opts   Options
	id     string // in its organization; "": it is in none
	noise  key.MachinePrivate
	legacy key.MachinePrivate // not used by any node that there is, but told
	derp   *tailcfg.DERPMap
	local  *tailcfg.DERPMap // the same relay, for who is where it listens

	controlURL, apiURL string
	localURL           string
	closers            []func()
	ctx                context.Context
	stop               context.CancelFunc
	wg                 sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	keys    []*Key
	nodes   []*node // in order of ID
	lastID  tailcfg.NodeID
	primary map[netip.Prefix]tailcfg.NodeID
	grants  policy
	// file is the policy file, if there is one, fileText as it came.
	file     *policyFile
	fileText []byte
	dns      DNS
	thawed   chan struct{} // closed unless frozen
	refuse   int           // HTTP status, 0: serve
	refused  chan struct{} // closed when refuse becomes non-zero

	clients []*oauthClient
	tokens  map[string]*token
	faults  []*Fault
	hanging atomic.Int32 // requests, because of faults
}

// Start starts a tailnet that lives until ctx ends or [Tailnet.Close].
// Everybody may talk to everybody until [Tailnet.SetGrants].
func Start(ctx context.Context, opts Options) (*Tailnet, error) {
	opts.fill()
	t := &Tailnet{
		opts: opts, noise: opts.MachineKey, legacy: key.NewMachine(),
		changed: make(chan struct{}), thawed: make(chan struct{}), refused: make(chan struct{}),
		primary: map[netip.Prefix]tailcfg.NodeID{}, tokens: map[string]*token{},
	}
	close(t.thawed)
	ctx, t.stop = context.WithCancel(ctx)
	t.ctx = ctx
	t.grants, _ = parseGrants([]Grant{{Src: []string{"*"}, Dst: []string{"*"}, IP: []string{"*"}}})
	if err := t.listen(); err != nil {
		t.Close()
		return nil, err
	}
	context.AfterFunc(ctx, t.release)
	return t, nil
}

func (o *Options) fill() {
	if !o.Addr.IsValid() {
		o.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if !o.Told.IsValid() {
		o.Told = o.Addr
	}
	if o.MachineKey.IsZero() {
		o.MachineKey = key.NewMachine()
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.ListenPacket == nil {
		o.ListenPacket = net.ListenPacket
	}
	if o.Domain == "" {
		o.Domain = "tail.test"
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
}

func (t *Tailnet) listen() error {
	derpPort, err := t.serveDERP()
	if err != nil {
		return fmt.Errorf("start DERP: %w", err)
	}
	stunPort, err := t.serveSTUN()
	if err != nil {
		return fmt.Errorf("start STUN: %w", err)
	}
	t.derp, t.local = derpMap(t.opts.Told, derpPort, stunPort), derpMap(t.opts.Addr, derpPort, stunPort)
	// The URLs are known before the first request is answered.
	control, err := t.tcp(t.opts.ControlPort)
	if err != nil {
		return fmt.Errorf("start control: %w", err)
	}
	api, err := t.tcp(t.opts.APIPort)
	if err != nil {
		return fmt.Errorf("start API: %w", err)
	}
	t.controlURL, t.apiURL = t.url(control), t.url(api)
	t.localURL = "http://" + control.Addr().String()
	t.serve(control, t.controlHandler())
	t.serve(api, t.apiHandler())
	return nil
}

// url is where callers are told to find what ln serves.
func (t *Tailnet) url(ln net.Listener) string {
	return "http://" + netip.AddrPortFrom(t.opts.Told, uint16(ln.Addr().(*net.TCPAddr).Port)).String()
}

func (t *Tailnet) tcp(port int) (net.Listener, error) {
	ln, err := t.opts.Listen("tcp", net.JoinHostPort(t.opts.Addr.String(), strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	t.closers = append(t.closers, func() { _ = ln.Close() })
	return ln, nil
}

// serve answers connections of ln until the tailnet is closed.
func (t *Tailnet) serve(ln net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return t.ctx },
	}
	t.closers = append(t.closers, func() { _ = srv.Close() })
	t.wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.opts.Logf("serve %v: %v", ln.Addr(), err)
		}
	})
}

// ControlURL is what a node takes as its login server.
func (t *Tailnet) ControlURL() string { return t.controlURL }

// LocalURL is where the control plane listens: [Tailnet.ControlURL] unless [Options.Told] is another address. Nodes that log in
// there are told of the relay where that listens, too, so they need nothing of what leads to the other address.
func (t *Tailnet) LocalURL() string { return t.localURL }

// APIURL is the base URL of the HTTP API v2, without "/api/v2".
func (t *Tailnet) APIURL() string { return t.apiURL }

// Domain is the MagicDNS domain.
func (t *Tailnet) Domain() string { return t.opts.Domain }

// Close ends the tailnet and waits for its servers.
func (t *Tailnet) Close() {
	t.stop()
	t.release()
	t.wg.Wait()
}

func (t *Tailnet) release() {
	for _, f := range t.closers {
		f()
	}
}
