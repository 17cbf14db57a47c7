package lab_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// build builds what is missing, which may take minutes, outside of what tests measure.
func build(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := lab.Build(ctx, os.Stderr); err != nil {
		t.Fatal(err)
	}
}

// start starts a lab, and ends it when the test does.
func start(ctx context.Context, t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	build(ctx, t)
	o.Out = testWriter{t}
	l, err := lab.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The context of the test has ended.
		if err := l.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	return l
}

// testWriter logs lines.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// eventually waits until fn succeeds.
func eventually(ctx context.Context, t *testing.T, limit time.Duration, fn func(context.Context) error) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := fn(ctx)
		if err == nil {
			return time.Since(begin)
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %v", limit, last)
		case <-tick.C:
		}
	}
}

func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = syscall.Kill(n, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("kill process %s: %v", pid, err)
	}
}

// kubectl runs it and returns what it printed.
func kubectl(ctx context.Context, t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Kubectl(ctx, args...).Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// in runs one of the test image's tools in a pod.
func in(ctx context.Context, l *lab.Lab, pod string, args ...string) (string, error) {
	out, err := l.Kubectl(ctx, append([]string{"exec", pod, "--"}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w: %s", strings.Join(args, " "), pod, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
