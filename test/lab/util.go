package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// since is a time for people.
func since(t time.Time) string { return time.Since(t).Round(100 * time.Millisecond).String() }

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// every calls fn every d until the function returned is called.
func every(d time.Duration, fn func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fn()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// poll calls fn every d until it succeeds; when ctx ends, it returns why fn did not.
func poll(ctx context.Context, d time.Duration, fn func(context.Context) error) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	var last error
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		// That time was up while fn asked says less than what it found before.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(last, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// errLocked says that another process holds a lock.
var errLocked = errors.New("locked by another process")

// flock locks an open file or folder, or returns errLocked.
func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// tryLock locks a file, which it makes. The lock ends with the file, or with the last process that has it open.
func tryLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Whoever had it before may have removed it.
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		_ = f.Close()
	}
}

// await waits for a lock that try takes; it calls waiting once when it has to.
func await(ctx context.Context, try func() (*os.File, error), waiting func()) (*os.File, error) {
	f, err := try()
	if !errors.Is(err, errLocked) {
		return f, err
	}
	waiting()
	perr := poll(ctx, 100*time.Millisecond, func(context.Context) error {
		if f, err = try(); errors.Is(err, errLocked) {
			return err
		}
		return nil // locked, or it never will be
	})
	if perr != nil {
		return nil, fmt.Errorf("wait for a lock: %w", perr)
	}
	return f, err
}

// lockFolder waits for the lock of a folder.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	return await(ctx, func() (*os.File, error) {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}, func() {})
}
