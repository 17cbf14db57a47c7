// Command tailgate-operator makes gateways of EgressGroups: it mints their auth keys, renders their
// configuration, runs them as DaemonSets, and deletes their devices from the tailnet when they go.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/kube"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// gcPercent is how far the heap may grow between collections, in percent of what lives. What lives is the cache, most
// of which never changes; at Go's 100 the operator would need twice that. Work comes in short
// bursts, so collecting more often costs nothing that anybody notices. GOGC in the environment wins.
const gcPercent = 20

// Before main, so that a binary that is made to be profiled can turn it on.
var _ = noHeapProfile()

// noHeapProfile: Go keeps samples of what is allocated for heap profiles, and nobody can ask an operator for one.
func noHeapProfile() struct{} {
	runtime.MemProfileRate = 0
	return struct{}{}
}

func main() { cli.Main("tailgate-operator", run) }

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

	cfg, bridged, err := kube.Connect("tailgate-operator", logger)
	if err != nil {
		return err
	}
	o := s.options
	o.Metrics = controller.NewMetrics(metrics.Registry)
	o.Connect = func(c tailnet.Credentials) (controller.Tailnet, error) {
		return tailnet.New(tailnet.Options{
			Credentials: c, BaseURL: s.apiURL, UserAgent: cfg.UserAgent,
			Observe: o.Metrics.Observe, Logger: logger,
		})
	}
	mgr, err := controller.NewManager(ctx, cfg, o, controller.ManagerOptions{
		LeaderElection: s.leaderElect, MetricsAddr: s.metricsAddr, HealthAddr: s.healthAddr, Logger: bridged,
	})
	if err != nil {
		return err
	}
	logger.Info("tailgate-operator started", "version", cli.Version(), "namespace", o.Render.Namespace, "gatewayImage", o.Render.Image)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run controllers: %w", err)
	}
	logger.Info("tailgate-operator ends; gateways go on")
	return nil
}
