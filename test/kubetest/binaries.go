//go:build linux

package kubetest

import (
	"context"
	"fmt"
	"os"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// binaries returns a folder with etcd, kube-apiserver and kubectl, which it builds when they are missing or have
// changed; that goes on for minutes, and standard error says so.
func binaries(ctx context.Context) (string, error) {
	built, err := lab.Build(ctx, os.Stderr, lab.Hyperkube)
	if err != nil {
		return "", fmt.Errorf("build etcd and kube-apiserver (go tool task lab:binaries does it, too, with no test's time limit): %w", err)
	}
	return built.Envtest(), nil
}
