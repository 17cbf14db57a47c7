package lab_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// TestUpKilled kills the process that starts a lab, at different steps, and wants everything to be as
// before: by itself, or, when the supervisor is killed, too, after Down.
func TestUpKilled(t *testing.T) {
	build(t.Context(), t)
	for _, tt := range []struct {
		after      string // a line of progress
		supervisor bool   // whether that is killed, too
	}{
		{after: "keys and configuration written"},
		{after: "control plane's machine started"},
		{after: "control plane's machine started", supervisor: true},
		{after: "API server ready"},
		{after: "services of the nodes started", supervisor: true},
	} {
		name := tt.after
		if tt.supervisor {
			name += ", supervisor too"
		}
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			before := snapshot(t)
			o := options("t-killed")
			c := exec.CommandContext(ctx, "/proc/self/exe", o.Name)
			c.Env = append(os.Environ(), modeVar+"=up")
			c.Stderr = os.Stderr
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			seen := false
			for lines := bufio.NewScanner(out); !seen && lines.Scan(); {
				seen = strings.Contains(lines.Text(), tt.after)
			}
			if !seen {
				t.Fatalf("the lab never came to %q", tt.after)
			}
			if tt.supervisor {
				// Stopped, the process cannot see its supervisor's end, fail, and keep the logs of that before it is killed.
				if err := c.Process.Signal(unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				killSupervisor(t, o)
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := c.Wait(); !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if tt.supervisor || tt.after == "keys and configuration written" {
				// There was no supervisor yet, or is none any more.
				if err := lab.Down(ctx, o.Dir, o.Name); err != nil {
					t.Error(err)
				}
			} else {
				awaitGone(ctx, t, o)
			}
			sameAgain(ctx, t, before)
		})
	}
}

// awaitGone waits until a lab's folder has been removed, by its supervisor.
func awaitGone(ctx context.Context, t *testing.T, o lab.Options) {
	t.Helper()
	eventually(ctx, t, 30*time.Second, func(context.Context) error {
		if _, err := os.Stat(filepath.Join(o.Dir, o.Name)); err == nil {
			return errors.New("the lab's folder is still there")
		}
		return nil
	})
}

// killSupervisor kills it as the kernel's memory killer would.
func killSupervisor(t *testing.T, o lab.Options) {
	t.Helper()
	args := "supervise\x00" + filepath.Join(o.Dir, o.Name) + "\x00"
	found, err := each("/proc/[0-9]*/cmdline", func(path string) (string, error) {
		b, _ := os.ReadFile(path)
		if !strings.HasSuffix(string(b), args) {
			return "", nil
		}
		return filepath.Base(filepath.Dir(path)), nil
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("find the supervisor: %q, %v", found, err)
	}
	kill(t, found[0])
}
