package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Up builds what is missing and starts a lab: it returns when all nodes and CoreDNS are ready. When a lab
// of that name and of these options is up, it returns that. A lab ends with the process that started it, unless
// [Lab.Keep] is called. When Up fails, or its process is killed, nothing of the lab stays, but for the
// logs after a failure, in the folder NAME.failed beside the lab's.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.fill()
	if err != nil {
		return nil, err
	}
	if err := Preflight(o); err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(o.Dir), 0o755), os.MkdirAll(o.Dir, 0o700)); err != nil {
		return nil, fmt.Errorf("make folder of labs: %w", err)
	}
	dir := filepath.Join(o.Dir, o.Name)
	lock, err := tryLock(lockPath(dir))
	if errors.Is(err, errLocked) {
		return running(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("start lab %s: %w", o.Name, err)
	}
	defer lock.Close() // the supervisor has it, too
	bins, err := Build(ctx, o.Out)
	if err != nil {
		return nil, errors.Join(err, os.Remove(lock.Name()))
	}
	l, err := start(ctx, o, dir, bins, lock)
	if err != nil {
		return nil, fmt.Errorf("start lab %s: %w", o.Name, err)
	}
	return l, nil
}

// running returns the lab that is up, when it is as wanted.
func running(ctx context.Context, o Options) (*Lab, error) {
	l, err := Open(ctx, o.Dir, o.Name)
	if errors.Is(err, ErrNotUp) { // there is a lock, and no lab yet, or none any more
		return nil, fmt.Errorf("lab %s: %w", o.Name, ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	want := o
	want.Out = l.Options.Out
	if !reflect.DeepEqual(want, l.Options) {
		return nil, fmt.Errorf("lab %s is up with other options (%s): end it first, or give the new one another name", o.Name, l.Options)
	}
	fmt.Fprintf(o.Out, "lab %s is up already\n", o.Name)
	return l, nil
}

// String says what a lab is like.
func (o Options) String() string {
	s := fmt.Sprintf("%d nodes, %s, %s", o.Nodes, o.Family, o.CNI)
	if len(o.Images) > 0 {
		s += ", images " + strings.Join(o.Images, " ")
	}
	return s
}

// start makes the lab in dir. What it makes is below dir, below the control group of dir, or a process
// in the supervisor's care, so that dir alone, which comes first, says what there is to undo.
func start(ctx context.Context, o Options, dir string, bins *Binaries, lock *os.File) (l *Lab, err error) {
	step := newSteps(o.Out)
	l, err = prepare(ctx, o, dir, bins)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.keepLogs(), l.Down(ctx))
		}
	}()
	if err := l.writeAll(); err != nil {
		return nil, err
	}
	step.done("keys and configuration written")
	if err := l.supervise(ctx, lock); err != nil {
		return nil, err
	}
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	if err := l.setupCore(); err != nil {
		return nil, err
	}
	step.done("control plane's machine started")
	return l, l.bringUp(ctx, step)
}

// prepare makes the folder, after it has removed an older one.
func prepare(ctx context.Context, o Options, dir string, bins *Binaries) (*Lab, error) {
	all, err := lockFolder(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	sweepCtx, cancel := context.WithTimeout(ctx, downTime)
	defer cancel()
	if err := errors.Join(machine.Sweep(sweepCtx, dir), os.RemoveAll(failedDir(dir))); err != nil {
		return nil, err
	}
	number, err := freeNumber(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	s := state{Options: o, Number: number, Dirs: bins.dirs, Started: time.Now()}
	if err := s.write(dir); err != nil {
		return nil, err
	}
	return newLab(dir, s)
}

// writeAll writes all files of the lab.
func (l *Lab) writeAll() error {
	conf := filepath.Join(l.dir, machine.First, "etc/kubernetes")
	ca, err := writePKI(conf, l.Plan)
	if err != nil {
		return err
	}
	if err := writeControlPlane(l.bins, l.dir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(conf, "admin.conf"), l.Kubeconfig()); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	for i := range l.Plan.Nodes {
		n := &l.Plan.Nodes[i]
		if err := writeNode(l.bins, l.Options, l.Plan, n, l.dir); err != nil {
			return err
		}
		conf := filepath.Join(l.dir, n.Name, nodeConfDir)
		err := errors.Join(
			writeFile(filepath.Join(conf, "ca.crt"), ca.pem),
			ca.writeKubeconfig(filepath.Join(conf, "kubelet.conf"), l.Plan, subject{name: "system:node:" + n.Name, group: groupNodes}),
			ca.writeKubeconfig(filepath.Join(conf, "kube-proxy.conf"), l.Plan, subject{name: "system:kube-proxy"}))
		if err != nil {
			return fmt.Errorf("write keys of %s: %w", n.Name, err)
		}
	}
	return nil
}

// supervise starts the supervisor, which starts the first machine, and waits until that is ready.
func (l *Lab) supervise(ctx context.Context, lock *os.File) error {
	log, err := os.OpenFile(logFile(l.dir, "host", "supervisor"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer log.Close()
	//nolint:noctx // it outlives what ctx bounds
	c := exec.Command(l.bins.Path(Tools, "labd"), "supervise", l.dir)
	c.Env, c.Dir, c.Stderr, c.ExtraFiles = environment(l.dir), "/", log, []*os.File{lock}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := c.StdinPipe()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	l.hold = in
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		said <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, out)
		_ = c.Wait()
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case s := <-said:
		if s != machine.Ready {
			return fmt.Errorf("start the control plane's machine: %s", s)
		}
	}
	return nil
}

// bringUp starts everything in the machines and waits for it.
func (l *Lab) bringUp(ctx context.Context, step *steps) error {
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, fmt.Errorf("it took longer than %s", upTime))
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	api := make(chan struct{})
	for _, n := range l.Nodes() {
		g.Go(func() error { return n.boot(gctx, api) })
	}
	g.Go(func() error {
		if err := l.startControlPlane(gctx); err != nil {
			return err
		}
		close(api)
		step.done("API server ready")
		return l.deploy(gctx)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	step.done("services of the nodes started, CoreDNS deployed")
	if err := l.WaitNodes(ctx); err != nil {
		return err
	}
	step.done("nodes Ready")
	if err := l.waitDNS(ctx); err != nil {
		return err
	}
	step.done("first pod (CoreDNS) Ready")
	s, err := readState(l.dir)
	if err != nil {
		return fmt.Errorf("read state of the lab: %w", err)
	}
	s.Up = true
	return s.write(l.dir)
}

// upTime bounds a start, also of a machine that is busy with other things.
const upTime = 5 * time.Minute

// failedDir is where the logs of a lab go that could not be started.
func failedDir(dir string) string { return dir + ".failed" }

func (l *Lab) keepLogs() error {
	if err := errors.Join(os.RemoveAll(failedDir(l.dir)), os.Rename(l.LogDir(), failedDir(l.dir))); err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	return fmt.Errorf("its logs are in %s", failedDir(l.dir))
}

// steps tells how a start goes.
type steps struct {
	out   io.Writer
	start time.Time
}

func newSteps(out io.Writer) *steps { return &steps{out: out, start: time.Now()} }

func (s *steps) done(what string) {
	fmt.Fprintf(s.out, "%5.1f s  %s\n", time.Since(s.start).Seconds(), what)
}
