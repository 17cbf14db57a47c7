//go:build linux

package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// roleEnv makes a process of this program a worker of another.
const roleEnv = "TAILGATE_BENCH_WORKER"

// MaybeWork never returns in a process that was started as a worker; in any other it does nothing. Programs that
// start workers call it first of all.
func MaybeWork() {
	if os.Getenv(roleEnv) == "" {
		return
	}
	if err := work(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work does jobs from in, one at a time, and answers each on out, until in ends.
func work(ctx context.Context, in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var j Job
		err := dec.Decode(&j)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read job: %w", err)
		}
		r, err := j.do(ctx)
		if err != nil {
			r.Error = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("answer job: %w", err)
		}
	}
}

// Worker is a process of this program that does jobs in a host, so that traffic is neither sent nor
// received by the process that runs the control plane and keeps the account.
type Worker struct {
	host *world.Host
	cmd  *world.Cmd
	in   *json.Encoder
	out  *json.Decoder

	mu sync.Mutex // one job at a time
}

// StartWorker starts one. It ends with the host's world.
func StartWorker(ctx context.Context, h *world.Host) (*Worker, error) {
	// The process outlives ctx, which bounds the start only.
	cmd := h.Command(context.WithoutCancel(ctx), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker in %s: %w", h.Name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker in %s: %w", h.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Worker{host: h, cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(out)}, nil
}

// PID is the worker's process.
func (w *Worker) PID() int { return w.cmd.Process.Pid }

// Stop ends the worker.
func (w *Worker) Stop() error { return w.cmd.Stop() }

// Do has the job done. When ctx ends before the job does, so does the worker.
func (w *Worker) Do(ctx context.Context, j Job) (Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Ends the process, and with it the pipes.
	stop := context.AfterFunc(ctx, func() { _ = w.cmd.Stop() })
	defer stop()
	var r Result
	err := w.in.Encode(j)
	if err == nil {
		err = w.out.Decode(&r)
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && r.Error != "":
		err = errors.New(r.Error)
	}
	if err != nil {
		return r, fmt.Errorf("%s in %s: %w", j.Op, w.host.Name, err)
	}
	return r, nil
}
