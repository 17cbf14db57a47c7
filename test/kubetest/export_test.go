//go:build linux

package kubetest

import (
	"context"
	"fmt"
	"os"
)

// Victim starts a server, says so, and waits for the end of its input.
func Victim() error {
	s, err := start(context.Background(), Options{})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1)) // whatever comes
	return s.stop()
}

// TryStart starts and stops a server.
func TryStart(ctx context.Context, o Options) error {
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	return s.stop()
}

// FindRoot is [Root] with an error.
var FindRoot = findRoot
