//go:build linux

package main

import (
	"context"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// findLab returns the lab of that name.
func findLab(ctx context.Context, name string) (*cluster, error) {
	l, err := lab.Open(ctx, "", name)
	if err != nil {
		return nil, err
	}
	config, err := l.Config()
	if err != nil {
		return nil, err
	}
	kubectl := "go tool task lab:kubectl --"
	if name != "lab" {
		kubectl += " --name=" + name
	}
	return &cluster{
		name: "the lab " + name, kubectl: kubectl,
		testImage: "--image=" + lab.TestImage + " --image-pull-policy=Never", testGet: "get",
		config: config, kubeconfig: l.Kubeconfig(),
		within: l.Network().Handle().Do, load: l.Load, close: func() error { return nil },
	}, nil
}
