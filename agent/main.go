// Command tailgate-agent runs on each node: it puts the CNI plugin into the chain, and keeps the pods that
// EgressGroups select stitched to the node's gateways.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/internal/cli"
)

// gcPercent is how far the heap may grow between collections, in percent of what lives: the caches of watches, which
// hardly change. An agent is on every node, so its memory counts many times. GOGC in the environment wins.
const gcPercent = 30

func main() {
	err := run(context.Background(), os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "tailgate-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args, os.Getenv)
	if err != nil {
		return err
	}
	if s.version {
		fmt.Println(cli.Version())
		return nil
	}
	logger, err := cli.Logger(s.logFormat, s.logLevel)
	if err != nil {
		return err
	}
	slog.SetDefault(logger)
	bridged := logr.FromSlogHandler(logger.Handler())
	log.SetLogger(bridged)
	klog.SetLogger(bridged) // client-go's
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()

	o := s.options
	if len(o.Resolvers) == 0 {
		if o.Resolvers, err = resolvers(resolvConf); err != nil {
			logger.Warn("the cluster's resolvers are not known, so no group's magicDNS works here; set --resolvers", "err", err)
		}
	}
	if o.Config, err = config.GetConfig(); err != nil {
		return fmt.Errorf("find the Kubernetes API: %w; in a cluster the pod's service account is used, elsewhere KUBECONFIG", err)
	}
	o.Config.UserAgent = "tailgate-agent/" + cli.Version()
	o.Registry = prometheus.NewRegistry()
	o.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o.Version, o.Logger = cli.Version(), logger
	d, err := daemon.New(ctx, o)
	if err != nil {
		return err
	}
	logger.Info("tailgate-agent started", "version", o.Version, "node", o.Node, "resolvers", o.Resolvers)
	if err := d.Run(ctx); err != nil {
		return err
	}
	logger.Info("tailgate-agent ends; members stay joined")
	return nil
}
