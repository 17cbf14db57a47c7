//go:build !linux

package main

import (
	"context"
	"errors"
)

// findLab has nothing to find: labs are made of Linux' namespaces.
func findLab(context.Context, string) (*cluster, error) {
	return nil, errors.New("labs run on Linux only")
}
