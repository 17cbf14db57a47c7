//go:build linux

package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// KillMarked kills every process that has [MarkVar] with this value in the environment it was
// started with, but for the caller, and waits until they have gone.
func KillMarked(ctx context.Context, value string) error {
	mark := []byte(MarkVar + "=" + value)
	return retry(ctx, func() error {
		pids, err := marked(mark)
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			return fmt.Errorf("processes %v of the lab do not end", pids)
		}
		return nil
	})
}

// marked kills those that have the mark and returns them.
func marked(mark []byte) ([]int, error) {
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	var pids []int
	for _, env := range envs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(env)))
		if err != nil || pid == os.Getpid() || !hasMark(env, mark) {
			continue
		}
		if err := killMarked(pid, env, mark); err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func hasMark(env string, mark []byte) bool {
	b, err := os.ReadFile(env)
	if err != nil {
		return false // it has ended, or is a thread of the kernel
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.Equal(v, mark) {
			return true
		}
	}
	return false
}

// killMarked kills by a descriptor, so that a number given to another process meanwhile does no harm.
func killMarked(pid int, env string, mark []byte) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !hasMark(env, mark) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
