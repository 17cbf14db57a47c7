package helm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tool is a Helm that was built.
type Tool struct {
	binary, home string
	kubeconfig   string
}

// Build builds Helm into the cache folder of the repository at root, which takes minutes the first time
// and nothing when it is there.
func Build(ctx context.Context, root string) (*Tool, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	t := &Tool{binary: filepath.Join(root, ".cache/bin/helm"), home: filepath.Join(root, ".cache/helm")}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(root, "test/tools/helm"), "-trimpath", "-ldflags=-s -w", "-o", t.binary, "tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Helm: %w\n%s", err, out)
	}
	return t, nil
}

// With returns a Helm that talks to the cluster of a kubeconfig file. Without, it knows no cluster.
func (t *Tool) With(kubeconfig string) *Tool {
	other := *t
	other.kubeconfig = kubeconfig
	return &other
}

// Run runs Helm and returns what it prints. What it says of an error is part of the error.
func (t *Tool) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.binary, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HELM_") && !strings.HasPrefix(v, "KUBECONFIG=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	kubeconfig := t.kubeconfig
	if kubeconfig == "" {
		kubeconfig = os.DevNull
	}
	cmd.Env = append(cmd.Env, "KUBECONFIG="+kubeconfig, "HELM_CACHE_HOME="+t.home, "HELM_CONFIG_HOME="+t.home, "HELM_DATA_HOME="+t.home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("helm %s: %w\n%s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
