// Command generate writes what deploy/ holds of other folders: the chart's copies of the CRDs, the chart's
// roles from the permissions that the code of operator and agent lists, and the manifests, which are the chart as
// Helm renders it with its defaults. It is run by go generate, in deploy/.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/rajsinghtech/tailgate/deploy/helm"
)

// Folders and files of deploy/.
const (
	chart     = "chart/tailgate-operator"
	chartCRDs = chart + "/files/crds"
	manifests = "manifests/tailgate.yaml"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, "."); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, deploy string) error {
	deploy, err := filepath.Abs(deploy)
	if err != nil {
		return err
	}
	files, err := chartFiles(deploy)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(deploy, chartCRDs)); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := write(filepath.Join(deploy, name), files[name]); err != nil {
			return err
		}
	}
	text, err := render(ctx, deploy)
	if err != nil {
		return err
	}
	return write(filepath.Join(deploy, manifests), text)
}

func write(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// chartFiles returns what is written into the chart, by name in deploy/.
func chartFiles(deploy string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, a := range accounts() {
		files[filepath.Join(chart, a.file)] = a.roles()
	}
	crds, err := filepath.Glob(filepath.Join(deploy, "crds/*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(crds) == 0 {
		return nil, fmt.Errorf("there are no CRDs in %s; run this by go generate ./deploy", filepath.Join(deploy, "crds"))
	}
	for _, crd := range crds {
		if files[filepath.Join(chartCRDs, filepath.Base(crd))], err = os.ReadFile(crd); err != nil {
			return nil, fmt.Errorf("copy the CRDs: %w", err)
		}
	}
	return files, nil
}

// render returns the manifests: the namespace, which a chart cannot make with labels, and the chart.
func render(ctx context.Context, deploy string) ([]byte, error) {
	namespace, err := os.ReadFile(filepath.Join(deploy, "manifests/namespace.yaml"))
	if err != nil {
		return nil, err
	}
	tool, err := helm.Build(ctx, filepath.Dir(deploy))
	if err != nil {
		return nil, err
	}
	rendered, err := tool.Run(ctx, "template", "tailgate-operator", filepath.Join(deploy, chart), "--namespace=tailgate-system")
	if err != nil {
		return nil, err
	}
	const head = "# Written by go generate ./deploy: the namespace, and the chart tailgate-operator with its defaults.\n"
	return slices.Concat([]byte(head), namespace, rendered), nil
}
