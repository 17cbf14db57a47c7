//go:build linux

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Run runs a program in the namespaces of the machine whose process 1 is pid, and waits for it. The
// program's path and folder are the machine's; open files are passed on as they are, so it can have
// the caller's terminal.
func Run(pid int, c *exec.Cmd) error {
	done := make(chan error, 1)
	go spend(func() {
		if err := enterAll(pid); err != nil {
			done <- fmt.Errorf("run %s in the machine: %w", c.Path, err)
			return
		}
		done <- c.Run()
	})
	return <-done
}

// spend runs fn on a thread that ends with it. The process's first thread does not end when its goroutine
// does: it would stay where fn took it, and hold on to what is there.
func spend(fn func()) {
	runtime.LockOSThread() // and never unlock, but for the first thread
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() { // on another thread, since this one is taken
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
}

func enterAll(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// A thread that shares its root with others cannot enter a mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(fd, Namespaces); err != nil {
		return fmt.Errorf("enter the namespaces of process %d: %w", pid, err)
	}
	return nil
}
