package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// ErrDown says that a node does not run.
var ErrDown = errors.New("the node is down")

// askEngine runs the container engine for what it prints. What it says of an error is part of the error.
func (t *Tool) askEngine(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, t.engine, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", t.engine, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(text)), nil
}

// PID is the process 1 of a node, as the machine numbers it on which the engine runs. Its error for a node that does not
// run wraps [ErrDown].
func (t *Tool) PID(ctx context.Context, node string) (int, error) {
	text, err := t.askEngine(ctx, "inspect", "--type", "container", "--format", "{{.State.Pid}}", node)
	if err != nil {
		return 0, fmt.Errorf("find process 1 of node %s: %w", node, err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("find process 1 of node %s: %s says %q", node, t.engine, text)
	}
	if pid == 0 { // both engines say so of a container that has ended
		return 0, fmt.Errorf("find process 1 of node %s: %w", node, ErrDown)
	}
	return pid, nil
}

// Crash ends a node as a power cut does, at once, and waits until it has ended. Its disk stays.
func (t *Tool) Crash(ctx context.Context, node string) error {
	if _, err := t.askEngine(ctx, "kill", node); err != nil {
		return fmt.Errorf("crash node %s: %w", node, err)
	}
	if _, err := t.askEngine(ctx, "wait", node); err != nil {
		return fmt.Errorf("crash node %s: %w", node, err)
	}
	return nil
}

// Start starts a node that is down, with the disk that it had. Kubernetes sees it later.
func (t *Tool) Start(ctx context.Context, node string) error {
	if _, err := t.askEngine(ctx, "start", node); err != nil {
		return fmt.Errorf("start node %s: %w", node, err)
	}
	return nil
}
