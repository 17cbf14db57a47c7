//go:build linux

package main

import (
	"errors"
	"log/slog"
	"os"
	"syscall"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// lockFD is where the supervisor finds the lab's lock, open and locked.
const lockFD = 3

func main() {
	if err := run(os.Args[1:]); err != nil {
		slog.Error("labd", "err", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "machine" {
		return machine.Main(args[1])
	}
	if len(args) == 2 && args[0] == "supervise" {
		syscall.CloseOnExec(lockFD)
		return machine.Supervise(args[1], os.NewFile(lockFD, args[1]+".lock"))
	}
	return errors.New("labd is started by the lab: go run ./test/lab/cmd/lab up")
}
