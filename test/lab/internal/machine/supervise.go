//go:build linux

package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Namespaces are those that a machine has of its own. Control groups are not among them:
// the kubelet has to find its own by the path that the host knows.
const Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Keep is the line on standard input that lets a machine outlive whoever started it.
const Keep = "keep"

// cleanTime bounds the wait for what a machine leaves behind.
const cleanTime = 30 * time.Second

// Supervise starts the first machine of the lab in dir, prints "ready" and stays until the machine
// has ended; then it removes what is left of the lab. It ends the machine when its standard input ends,
// unless that said [Keep] before, and when it gets SIGTERM. When Supervise is killed, so is the
// machine, and what is left is for [Sweep]. lock is the lab's; it is removed at the very end.
func Supervise(dir string, lock *os.File) error {
	// Pdeathsig is bound to the thread that forked (prctl(2)).
	runtime.LockOSThread()
	// Whoever reads what we print may have gone; we are still needed.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT)
	specFile := SpecFile(dir, First)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	//nolint:noctx // it lives as long as this process
	c := exec.Command(self, "machine", specFile)
	c.Stderr, c.ExtraFiles = os.Stderr, []*os.File{w} // which is readyFD
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: Namespaces, Pdeathsig: syscall.SIGKILL, Setsid: true}
	err = c.Start()
	if cerr := w.Close(); err == nil { // the machine has its own
		err = cerr
	}
	if err == nil {
		go watch(c.Process, dir)
		if err = awaitReady(r); err == nil {
			_, err = fmt.Println(Ready)
		} else {
			_, _ = fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			_ = c.Process.Kill()
		}
		slog.Info("machine ended", "how", c.Wait())
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	return errors.Join(err, Sweep(ctx, dir), os.Remove(lock.Name()), lock.Close())
}

// Sweep ends what still runs of the lab in dir and removes its control groups and the folder. The
// caller holds the lab's lock.
func Sweep(ctx context.Context, dir string) error {
	err := errors.Join(
		Thaw(ctx, CgroupOf(dir)), // what is frozen does not die
		KillMarked(ctx, dir),
		RemoveCgroup(ctx, CgroupOf(dir)),
		os.RemoveAll(dir))
	if err != nil {
		return fmt.Errorf("remove lab %s: %w", dir, err)
	}
	return nil
}

// watch ends the machine when standard input ends without having said Keep, or a signal says so.
func watch(p *os.Process, dir string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	gone := make(chan struct{})
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if strings.TrimSpace(line) != Keep {
			close(gone)
		}
	}()
	select {
	case <-term:
		slog.Info("told to end")
	case <-gone:
		slog.Info("whoever started the lab has gone")
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	if err := Thaw(ctx, CgroupOf(dir)); err != nil {
		slog.Error("thaw", "err", err)
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		slog.Error("end machine", "err", err)
	}
}

// awaitReady reads what a new machine says of itself.
func awaitReady(r *os.File) error {
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("wait for the machine: %w", err)
	}
	switch s := string(b); s {
	case Ready:
		return nil
	case "":
		return errors.New("the machine ended before it was ready; its log may say why")
	default:
		return errors.New(s)
	}
}
