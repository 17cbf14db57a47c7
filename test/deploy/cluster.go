package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rajsinghtech/tailgate/test/kind"
)

// cluster is where to deploy to.
type cluster struct {
	// name is for people, kubectl what they run there.
	name, kubectl string
	// testImage is an image for a member, as flags of "kubectl run", testArgs what it runs, and testGet what gets a web page in it.
	testImage, testArgs, testGet string
	// config reaches the API server from here, kubeconfig from within.
	config     *rest.Config
	kubeconfig string
	// within runs a function where programs reach the API server.
	within func(func() error) error
	// load brings image archives to the nodes; nil: they pull from a registry.
	load func(ctx context.Context, archives ...string) error
	// close lets go of what was made to reach the cluster.
	close func() error
}

// A member for clusters that reach a registry.
const (
	busybox = "--image=busybox"
	sleep   = " -- sleep 1d"
	wget    = "wget -qO-"
)

// here is where programs are when they reach the cluster as this one does.
func here(f func() error) error { return f() }

// find returns the cluster that the settings name, or the one that there is.
func find(ctx context.Context, root string, s settings) (*cluster, error) {
	switch {
	case s.kubeconfig != "":
		return other(s.kubeconfig)
	case s.lab != "":
		return findLab(ctx, s.lab)
	}
	c, err := findKind(ctx, root)
	if c != nil || err != nil && !errors.Is(err, kind.ErrNoEngine) {
		return c, err
	}
	c, err = findLab(ctx, "lab")
	if err != nil {
		return nil, fmt.Errorf("there is no cluster to deploy to: make one with go tool task kind:up, which needs Docker or podman, "+
			"or go tool task lab:up, which needs neither, or name one with --kubeconfig (%w)", err)
	}
	return c, nil
}

// other returns the cluster that a kubeconfig leads to.
func other(file string) (*cluster, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("read --kubeconfig: %w", err)
	}
	return &cluster{
		name: "the cluster at " + config.Host, kubectl: "kubectl --kubeconfig " + file,
		testImage: busybox, testArgs: sleep, testGet: wget, config: config, kubeconfig: file, within: here, close: func() error { return nil },
	}, nil
}

// findKind returns the kind cluster, or nil.
func findKind(ctx context.Context, root string) (*cluster, error) {
	t, err := kind.Build(ctx, root, os.Stderr)
	if err != nil {
		return nil, err
	}
	if exists, err := t.Exists(ctx); err != nil || !exists {
		return nil, err
	}
	text, err := t.Kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tailgate-deploy-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kubeconfig")
	c := &cluster{
		name: fmt.Sprintf("the kind cluster %s in %s", kind.Name, t.Engine()), kubectl: "kubectl --context kind-" + kind.Name,
		testImage: busybox, testArgs: sleep, testGet: wget, kubeconfig: file, within: here, load: t.Load, close: func() error { return os.RemoveAll(dir) },
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", file); err != nil {
		return nil, errors.Join(fmt.Errorf("read kubeconfig of kind: %w", err), c.close())
	}
	return c, nil
}
