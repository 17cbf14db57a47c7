// Command tailgate-gateway is a Tailscale node on a kernel TUN that carries the traffic of member
// network namespaces. It takes its configuration live from a file, and leaves the TUN and the kernel
// around it in place when it ends, so that connections outlive it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"tailscale.com/envknob"
	"tailscale.com/util/dnsname"

	"github.com/rajsinghtech/tailgate/gateway/dataplane"
	"github.com/rajsinghtech/tailgate/gateway/debug"
	"github.com/rajsinghtech/tailgate/gateway/node"
	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/netns"
)

const envPrefix = "TAILGATE"

const intro = `tailgate-gateway joins a tailnet and carries the traffic of the pods that are linked to its
network namespace: links named tg1, tg2, … are members, and come and go without its being told.

It needs the capability NET_ADMIN, /dev/net/tun, a folder that outlives it, and a configuration
file in Tailscale's format "alpha0" (HuJSON), which is applied again whenever it changes:

  {
    "Version": "alpha0",
    "ServerURL": "https://controlplane.tailscale.com",
    "AuthKey": "file:/etc/tailgate/authkey",
    "Hostname": "egress-payments",
    "acceptRoutes": true,
    "exitNode": "exit-fra1"
  }

Look at http://127.0.0.1:9001/debug/ in its network namespace, or ask it with
  tailscale --socket=/run/tailgate/tailscaled.sock status`

func main() { cli.Main("tailgate-gateway", run) }

// settings are the command line.
type settings struct {
	config, stateDir, socketDir, tun   string
	port                               uint
	txQueueLen                         int
	addr, debugAddr                    string
	hostname, resolvers, clusterDomain string
	logFormat                          string
	logLevel                           slog.Level
	flowLogs, version                  bool
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("tailgate-gateway", flag.ContinueOnError)
	fs.SetOutput(os.Stdout)
	fs.StringVar(&s.config, "config", "/etc/tailgate/config.json", "`file` with the configuration; it may be a ConfigMap's, and need not exist yet")
	fs.StringVar(&s.stateDir, "state-dir", "/var/lib/tailgate", "`folder` for the node's identity and the cached netmap; made 0700")
	fs.StringVar(&s.socketDir, "socket-dir", "/run/tailgate", "`folder` for the unix sockets "+node.SnapshotSocket+" and "+node.LocalAPISocket+"; made 0700")
	fs.StringVar(&s.tun, "tun", "tailscale0", "`name` of the tunnel device")
	fs.UintVar(&s.port, "port", 41641, "UDP `port` of WireGuard; fixed, so that peers find the gateway again after a restart")
	fs.IntVar(&s.txQueueLen, "txqueuelen", 0, "transmit queue of the tunnel device in `packets`; 0 leaves the kernel's default")
	fs.StringVar(&s.addr, "addr", ":9002", "`address` of /healthz, /readyz and /metrics; empty: none")
	fs.StringVar(&s.debugAddr, "debug-addr", "127.0.0.1:9001", "loopback `address` of /debug/ and all of the above; empty: none")
	fs.StringVar(&s.hostname, "hostname", "", "`name` in the tailnet when the configuration has no Hostname; what no DNS label has becomes a hyphen,\nand what is too long ends in a hash. Empty: the machine's name")
	fs.StringVar(&s.resolvers, "resolvers", "", "cluster resolvers as a comma-separated `list` of addresses, for names that the tailnet says nothing of;\nempty: the nameservers in /etc/resolv.conf")
	fs.StringVar(&s.clusterDomain, "cluster-domain", "cluster.local", "comma-separated `list` of domains that only the cluster's resolvers know")
	fs.StringVar(&s.logFormat, "log-format", "text", "`format` of the log on stderr: text or json")
	fs.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "least `level` that is logged: debug (the engine's own lines, too), info, warn, error")
	fs.BoolVar(&s.flowLogs, "network-flow-logs", false, "upload network flow logs to Tailscale if the tailnet has them turned on. Such a tailnet refuses a node that will not;\nnothing else is ever uploaded")
	fs.BoolVar(&s.version, "version", false, "print the version and exit")
	fs.Usage = cli.Usage(fs, envPrefix, intro)
	if err := cli.Parse(fs, envPrefix, args, os.Getenv); err != nil {
		return s, err
	}
	if s.port == 0 || s.port > 65535 {
		return s, fmt.Errorf("--port %d is not a fixed UDP port; write one from 1 to 65535", s.port)
	}
	if s.hostname != "" && node.HostLabel(s.hostname) == "" {
		return s, fmt.Errorf("--hostname %q has no letter and no digit to make a name of; write one such as payments-node-1", s.hostname)
	}
	if s.debugAddr != "" && !loopback(s.debugAddr) {
		return s, fmt.Errorf("--debug-addr %q is not on loopback; its pages are for whoever is on the node, so write 127.0.0.1:PORT or [::1]:PORT", s.debugAddr)
	}
	return s, nil
}

// gcPercent is how far the heap may grow between collections, in percent of what lives. The heap is the
// engine's packet buffers of 64 KiB, held in pools that a collection empties: at Go's 100 a busy gateway
// keeps three times the memory for no gain in throughput. GOGC in the environment wins.
const gcPercent = 20

func loopback(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr().IsLoopback()
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if s.version {
		fmt.Println(cli.Version())
		return nil
	}
	log, err := cli.Logger(s.logFormat, s.logLevel)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	cli.CollectEarly(gcPercent)
	if !s.flowLogs {
		envknob.SetNoLogsNoSupport()
	}
	resolvers, domains, err := resolverSettings(s)
	if err != nil {
		return err
	}
	ns, err := netns.Current()
	if err != nil {
		return err
	}
	defer ns.Close()
	plane, err := dataplane.New(dataplane.Options{NS: ns, TUN: s.tun, TxQueueLen: s.txQueueLen, Logger: log})
	if err != nil {
		return err
	}
	defer plane.Close()
	n := node.New(node.Options{
		Config: s.config, StateDir: s.stateDir, SocketDir: s.socketDir, TUN: s.tun, Port: uint16(s.port),
		Hostname: s.hostname, Resolvers: resolvers, ClusterDomains: domains, Dataplane: plane, Version: cli.Version(), Logger: log,
	})
	pages := debug.New(debug.Options{Node: n, Dataplane: plane, Version: cli.Version()})

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return plane.Run(ctx) })
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error { return serve(ctx, s.addr, pages.Public()) })
	g.Go(func() error { return serve(ctx, s.debugAddr, pages.Debug()) })
	log.Info("tailgate-gateway started", "version", cli.Version(), "config", s.config, "resolvers", resolvers)
	err = g.Wait()
	log.Info("tailgate-gateway ends; its TUN, routes and connections stay for the next")
	return err
}

func resolverSettings(s settings) ([]netip.Addr, []dnsname.FQDN, error) {
	var domains []dnsname.FQDN
	for d := range strings.SplitSeq(s.clusterDomain, ",") {
		if d = strings.TrimSpace(d); d == "" {
			continue
		}
		fqdn, err := dnsname.ToFQDN(d)
		if err != nil {
			return nil, nil, fmt.Errorf("--cluster-domain: %q is no domain name, such as cluster.local: %w", d, err)
		}
		domains = append(domains, fqdn)
	}
	if s.resolvers == "" {
		rs, err := node.SystemResolvers("/etc/resolv.conf")
		return rs, domains, err
	}
	var rs []netip.Addr
	for a := range strings.SplitSeq(s.resolvers, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(a))
		if err != nil {
			return nil, nil, fmt.Errorf("--resolvers: %q is no IP address, such as 10.96.0.10: %w", a, err)
		}
		rs = append(rs, ip)
	}
	return rs, domains, nil
}

// serve serves h on addr until ctx ends; "" serves nothing.
func serve(ctx context.Context, addr string, h http.Handler) error {
	if addr == "" {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve pages: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve pages: %w", err)
	}
	return nil
}
