package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Errors that callers can tell apart.
var (
	// ErrNotUp says that no lab of that name runs.
	ErrNotUp = errors.New("no such lab is up")
	// ErrBusy says that another process is starting or ending the lab.
	ErrBusy = errors.New("another process is starting or ending the lab")
)

// Lab is a running cluster. Its methods may be used at the same time, also by several processes, except
// that one node should be started and stopped by one at a time.
type Lab struct {
	// Options are those that it was made with, filled in.
	Options Options
	// Plan is who has which address.
	Plan Plan

	dir  string
	bins *Binaries
	hold io.Closer     // while it is open the supervisor goes on; nil: it does so anyway
	core *netns.Handle // of the control plane
}

// state is what a lab's folder remembers, in lab.json, from before anything else is made.
type state struct {
	Options Options
	Number  int
	// Dirs are the folders of the binaries.
	Dirs map[Part]string
	// Up is whether it once was ready.
	Up      bool
	Started time.Time
}

func stateFile(dir string) string { return filepath.Join(dir, "lab.json") }

func readState(dir string) (state, error) {
	var s state
	b, err := os.ReadFile(stateFile(dir))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// write replaces the file as a whole.
func (s state) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state of the lab: %w", err)
	}
	tmp := stateFile(dir) + ".new"
	if err := errors.Join(writeFile(tmp, append(b, '\n')), os.Rename(tmp, stateFile(dir))); err != nil {
		return fmt.Errorf("write state of the lab: %w", err)
	}
	return nil
}

// lockPath is locked as long as the lab's supervisor runs, or someone makes or removes the lab.
func lockPath(dir string) string { return dir + ".lock" }

// Open returns the running lab of that name in the folder of labs; "" are the defaults of [Options]. When
// it does not run, the error wraps [ErrNotUp] or [ErrBusy].
func Open(ctx context.Context, folder, name string) (*Lab, error) {
	o, err := Options{Name: name, Dir: folder}.fill()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Dir, o.Name)
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: %w; start it with: lab up --name=%s", o.Name, ErrNotUp, o.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("read state of lab %s: %w", o.Name, err)
	}
	if lock, err := tryLock(lockPath(dir)); err == nil {
		return nil, errors.Join(
			fmt.Errorf("lab %s: %w: it was killed; remove the rest with: lab down --name=%s", o.Name, ErrNotUp, o.Name),
			os.Remove(lock.Name()), lock.Close())
	} else if !errors.Is(err, errLocked) {
		return nil, err
	}
	if !s.Up {
		return nil, fmt.Errorf("lab %s: %w", o.Name, ErrBusy)
	}
	s.Options.Dir, s.Options.Out = o.Dir, io.Discard
	l, err := newLab(dir, s)
	if err != nil {
		return nil, err
	}
	return l, l.connect(ctx)
}

func newLab(dir string, s state) (*Lab, error) {
	plan, err := NewPlan(s.Number, s.Options.Nodes, s.Options.Family)
	if err != nil {
		return nil, err
	}
	return &Lab{Options: s.Options, Plan: plan, dir: dir, bins: &Binaries{dirs: s.Dirs}}, nil
}

// connect finds the namespace of the control plane.
func (l *Lab) connect(ctx context.Context) error {
	ns, err := l.machineNetNS(ctx, machine.First)
	if err != nil {
		return err
	}
	l.core = ns
	return nil
}

// machineNetNS opens the network namespace of a machine.
func (l *Lab) machineNetNS(ctx context.Context, name string) (*netns.Handle, error) {
	c, err := l.dial(ctx, name)
	if err != nil {
		return nil, err
	}
	// While the connection is open and answers, the process is the one that we found.
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", c.PID()))
	if err == nil {
		_, err = c.List(ctx)
	}
	return ns, errors.Join(err, c.Close())
}

// dial connects to a machine.
func (l *Lab) dial(ctx context.Context, name string) (*machine.Client, error) {
	c, err := machine.Dial(ctx, machine.SocketFile(l.dir, name))
	if err != nil {
		return nil, fmt.Errorf("%s of lab %s: %w", name, l.Options.Name, err)
	}
	return c, nil
}

// Dir is the lab's folder.
func (l *Lab) Dir() string { return l.dir }

// LogDir is the folder with a log of each process: MACHINE-PROCESS.log.
func (l *Lab) LogDir() string { return filepath.Join(l.dir, "log") }

// Binaries are the programs that the lab runs.
func (l *Lab) Binaries() *Binaries { return l.bins }

// Keep lets the lab outlive this process; without it, a lab ends with the process that called [Up].
func (l *Lab) Keep() error {
	if l.hold == nil {
		return nil
	}
	w := l.hold.(io.Writer)
	if _, err := io.WriteString(w, machine.Keep+"\n"); err != nil {
		return fmt.Errorf("keep lab %s: %w", l.Options.Name, err)
	}
	err := l.hold.Close()
	l.hold = nil
	return err
}

// Down ends the lab, and removes everything of it.
func (l *Lab) Down(ctx context.Context) error {
	if l.core != nil {
		_ = l.core.Close() // it would keep the namespace alive
	}
	err := down(ctx, l.dir)
	if l.hold != nil {
		_ = l.hold.Close()
		l.hold = nil
	}
	return err
}

// downTime is how long the end of a lab may take.
const downTime = time.Minute

// Down ends a lab and removes everything of it, also when it was killed or is just being started. That
// there is none is no error. It does not stop before all is gone, when ctx ends, but waits no longer than a minute.
func Down(ctx context.Context, folder, name string) error {
	o, err := Options{Name: name, Dir: folder}.fill()
	if err != nil {
		return err
	}
	return down(ctx, filepath.Join(o.Dir, o.Name))
}

func down(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTime)
	defer cancel()
	var lock *os.File
	var lockErr error
	err := poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		lock, lockErr = tryLock(lockPath(dir))
		if !errors.Is(lockErr, errLocked) {
			return nil // ours, or it never will be
		}
		return errors.Join(endFirst(ctx, dir), lockErr)
	})
	if errors.Is(err, errLocked) {
		err = errors.Join(ErrBusy, err)
	}
	if err = errors.Join(err, lockErr); err != nil {
		return fmt.Errorf("end lab %s: %w", filepath.Base(dir), err)
	}
	return errors.Join(machine.Sweep(ctx, dir), os.Remove(lock.Name()), lock.Close())
}

// endFirst kills the first machine, and so all; its supervisor removes what is left.
func endFirst(ctx context.Context, dir string) error {
	// What is frozen does not die.
	if err := machine.Thaw(ctx, machine.CgroupOf(dir)); err != nil {
		return err
	}
	c, err := machine.Dial(ctx, machine.SocketFile(dir, machine.First))
	if errors.Is(err, machine.ErrDown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Kill()
}

// freeNumber finds an address plan that no lab in the folder has. The caller holds the folder's lock.
func freeNumber(folder string) (int, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", filepath.Base(stateFile(""))))
	if err != nil {
		return 0, fmt.Errorf("look for labs: %w", err)
	}
	var taken []int
	for _, f := range files {
		s, err := readState(filepath.Dir(f))
		if err == nil {
			taken = append(taken, s.Number)
		}
	}
	for n := range maxLabs {
		if !slices.Contains(taken, n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%d labs are the most on one machine: end one", maxLabs)
}
