// Package kube is what the operator's and the agent's programs have in common: how they reach the Kubernetes API, and
// what its libraries log.
//
// It promises that all that libraries log goes to the program's own log, whose level must not be below debug: there client-go
// logs what it sends and receives, Secrets included.
package kube

import (
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/internal/cli"
)

// Connect returns how to reach the API server, as the program of that name, and the logger in the form that libraries
// take; theirs goes there from now on. Call it once.
func Connect(program string, logger *slog.Logger) (*rest.Config, logr.Logger, error) {
	bridged := logr.FromSlogHandler(logger.Handler())
	log.SetLogger(bridged)
	klog.SetLogger(bridged) // client-go's
	cfg, err := config.GetConfig()
	if err != nil {
		return nil, bridged, fmt.Errorf("find the Kubernetes API: %w; in a cluster the pod's service account is used, elsewhere KUBECONFIG", err)
	}
	cfg.UserAgent = program + "/" + cli.Version()
	return cfg, bridged, nil
}
