//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// profiler is added to the operator's package by --profile.
//
//go:embed profiler.go.txt
var profiler []byte

// profilesEnv tells the profiler its folder.
const profilesEnv = "TAILGATE_BENCH_PROFILES"

// build returns the path of the operator's binary, which is built as it is for its image.
func (b *bench) build(ctx context.Context) (string, error) {
	if b.s.binary != "" {
		return filepath.Abs(b.s.binary)
	}
	began := time.Now()
	path := filepath.Join(b.dir, "tailgate-operator")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path}
	if b.s.profile != "" {
		overlay, err := b.overlay()
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./operator")...)
	cmd.Dir, cmd.Env = b.server.Root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tailgate-operator: %w\n%s", err, bytes.TrimSpace(text))
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("build tailgate-operator: %w", err)
	}
	fmt.Fprintf(b.out, "built tailgate-operator, %.1f MB, in %v\n", float64(info.Size())/mega, time.Since(began).Round(time.Second))
	return path, nil
}

// overlay returns a file for go build -overlay that adds the profiler to the operator's package.
func (b *bench) overlay() (string, error) {
	var err error
	if b.s.profile, err = filepath.Abs(b.s.profile); err != nil {
		return "", err
	}
	source, overlay := filepath.Join(b.dir, "profiler.go"), filepath.Join(b.dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(b.server.Root, "operator", "bench_profiler.go"): source},
	})
	err = errors.Join(err, os.MkdirAll(b.s.profile, 0o755), os.WriteFile(source, profiler, 0o600), os.WriteFile(overlay, text, 0o600))
	if err != nil {
		return "", fmt.Errorf("prepare the profiler: %w", err)
	}
	return overlay, nil
}

// operator is the process under test.
type operator struct {
	binary, kubeconfig, apiURL string
	log                        string // all runs write to it
	profiles                   string // folder; "": none
	env                        []string

	cmd             *exec.Cmd
	ended           chan struct{} // closed after the process, and after err is set
	err             error
	began           time.Time
	metrics, health string // URLs
}

// start starts the operator with the flags that the chart gives it.
func (o *operator) start(ctx context.Context) error {
	metricsAddr, err := freeAddr()
	if err != nil {
		return err
	}
	healthAddr, err := freeAddr()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(o.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start tailgate-operator: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, o.binary,
		"--namespace="+namespace, "--gateway-image="+image, "--tailnet-api-url="+o.apiURL,
		"--metrics-addr="+metricsAddr, "--health-addr="+healthAddr)
	cmd.Env = append([]string{"KUBECONFIG=" + o.kubeconfig, "HOME=/nonexistent"}, o.env...)
	if o.profiles != "" {
		cmd.Env = append(cmd.Env, profilesEnv+"="+o.profiles)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	o.began = time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start tailgate-operator: %w", err)
	}
	o.cmd, o.ended, o.err = cmd, make(chan struct{}), nil
	o.metrics, o.health = "http://"+metricsAddr+"/metrics", "http://"+healthAddr
	go func(ended chan<- struct{}) {
		o.err = cmd.Wait()
		close(ended)
	}(o.ended)
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (o *operator) pid() int { return o.cmd.Process.Pid }

// alive returns an error when the process has ended.
func (o *operator) alive() error {
	select {
	case <-o.ended:
		return fmt.Errorf("tailgate-operator ended: %w", cmp.Or(o.err, errors.New("without an error")))
	default:
		return nil
	}
}

// ready waits until the operator says that it has everything that there is.
func (o *operator) ready(ctx context.Context) error {
	for {
		if err := o.alive(); err != nil {
			return err
		}
		if healthy(ctx, o.health+"/readyz") {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s/readyz: %w", o.health, err)
		}
	}
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop ends the process as a kubelet does, and returns how long that took.
func (o *operator) stop(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop tailgate-operator: %w", err)
	}
	select {
	case <-o.ended:
		o.cmd = nil
		if o.err != nil {
			return 0, fmt.Errorf("stop tailgate-operator: %w", o.err)
		}
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("stop tailgate-operator: %w", ctx.Err())
	}
}

// kill ends the process if there is one.
func (o *operator) kill() error {
	if o.cmd == nil {
		return nil
	}
	if err := o.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill tailgate-operator: %w", err)
	}
	<-o.ended
	return nil
}

// profile asks for a heap profile and returns its path.
func (o *operator) profile(ctx context.Context, name string) (string, error) {
	path := filepath.Join(o.profiles, name+".pprof")
	next := filepath.Join(o.profiles, "next.pprof")
	if err := o.cmd.Process.Signal(unix.SIGUSR1); err != nil {
		return "", fmt.Errorf("profile tailgate-operator: %w", err)
	}
	for {
		err := os.Rename(next, path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("profile tailgate-operator: %w", err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", fmt.Errorf("wait for profile %s: %w", strconv.Quote(name), err)
		}
	}
}

// pause waits for a while, or returns why ctx ended before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
