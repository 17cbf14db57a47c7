// Command tailgate-agent runs on each node: it puts the CNI plugin into the chain, and keeps the pods that
// EgressGroups select stitched to the node's gateways.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/kube"
)

// gcPercent is how far the heap may grow between collections, in percent of what lives: the caches of watches, which
// hardly change. An agent is on every node, so its memory counts many times. GOGC in the environment wins.
const gcPercent = 30

func main() { cli.Main("tailgate-agent", run) }

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
	cli.CollectEarly(gcPercent)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()

	o := s.options
	if len(o.Resolvers) == 0 {
		if o.Resolvers, err = resolvers(resolvConf); err != nil {
			logger.Warn("the cluster's resolvers are not known, so no group's magicDNS works here; set --resolvers", "err", err)
		}
	}
	if o.Config, _, err = kube.Connect("tailgate-agent", logger); err != nil {
		return err
	}
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
