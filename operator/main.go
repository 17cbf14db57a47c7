// Command tailgate-operator makes gateways of EgressGroups: it mints their auth keys, renders their
// configuration, runs them as DaemonSets, and deletes their devices from the tailnet when they go.
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
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// gcPercent is how far the heap may grow between collections, in percent of what lives. What lives is the cache, most
// of which never changes; at Go's 100 the operator would need twice that. Work comes in short
// bursts, so collecting more often costs nothing that anybody notices. GOGC in the environment wins.
const gcPercent = 30

func main() {
	err := run(context.Background(), os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "tailgate-operator:", err)
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

	cfg, err := config.GetConfig()
	if err != nil {
		return fmt.Errorf("find the Kubernetes API: %w; in a cluster the pod's service account is used, elsewhere KUBECONFIG", err)
	}
	cfg.UserAgent = "tailgate-operator/" + cli.Version()
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
