//go:build linux

package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is where a new machine says that it is ready, or why it is not.
const readyFD = 3

// Ready is what it says, and what a supervisor prints.
const Ready = "ready"

// Main runs the machine of the file given, as process 1 of new namespaces. It returns only when it
// could not.
func Main(specFile string) error {
	done := os.NewFile(readyFD, "ready")
	srv, ln, err := prepare(specFile)
	if err != nil {
		_, _ = done.WriteString(err.Error())
		return err
	}
	if _, err := done.WriteString(Ready); err != nil {
		return fmt.Errorf("say ready: %w", err)
	}
	if err := done.Close(); err != nil {
		return fmt.Errorf("say ready: %w", err)
	}
	return srv.serve(ln)
}

func prepare(specFile string) (*server, net.Listener, error) {
	if os.Getpid() != 1 {
		return nil, nil, errors.New("a machine is process 1 of its namespaces; start it by way of this package")
	}
	s, err := ReadSpec(specFile)
	if err != nil {
		return nil, nil, err
	}
	if err := joinCgroup(s.Cgroup); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(s.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err // one of before a crash
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Socket, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	ln.SetUnlinkOnClose(false) // the path leads elsewhere by then
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return nil, nil, os.NewSyscallError("sethostname", err)
	}
	if err := build(s); err != nil {
		return nil, nil, fmt.Errorf("build the file system of %s: %w", s.Hostname, err)
	}
	srv := &server{procs: make(map[string]*proc)}
	srv.reap()
	return srv, ln, nil
}

// server is a machine's process 1.
type server struct {
	mu    sync.Mutex
	procs map[string]*proc
}

type proc struct {
	pid  int
	done chan struct{} // closed when it has ended
	end  string
}

// reap collects every child that ends: ours, and orphans, which the kernel gives to process 1. Nothing
// else here may wait for a child.
func (s *server) reap() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGCHLD)
	// Shells and stray tools send these; a machine ends by SIGKILL only.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for range sig {
			s.collect()
		}
	}()
}

func (s *server) collect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, p := range s.procs {
			if p.pid == pid {
				p.end = describe(st)
				close(p.done)
			}
		}
	}
}

func describe(st unix.WaitStatus) string {
	if st.Signaled() {
		return "signal: " + st.Signal().String()
	}
	return fmt.Sprintf("exit status %d", st.ExitStatus())
}

func (s *server) serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer conn.Close()
			dec, enc := json.NewDecoder(conn), json.NewEncoder(conn)
			for {
				var req request
				if err := dec.Decode(&req); err != nil {
					return
				}
				var r reply
				if err := s.handle(req, &r); err != nil {
					r.Error = err.Error()
				}
				if err := enc.Encode(r); err != nil {
					slog.Warn("answer lost", "op", req.Op, "err", err)
					return
				}
			}
		}()
	}
}

func (s *server) handle(req request, r *reply) error {
	name := req.Process.Name
	switch req.Op {
	case "start":
		return s.start(req.Process)
	case "stop":
		p := s.find(name)
		if p == nil {
			return nil
		}
		// Under the lock nobody collects the process, so its number is still its own.
		s.mu.Lock()
		select {
		case <-p.done:
		default:
			_ = unix.Kill(p.pid, unix.Signal(req.Signal))
		}
		s.mu.Unlock()
		<-p.done
		return nil
	case "wait":
		p := s.find(name)
		if p == nil {
			return fmt.Errorf("no process %s was started", name)
		}
		<-p.done
		r.Processes = s.list(name)
		return nil
	case "list":
		r.Processes = s.list("")
		return nil
	}
	return fmt.Errorf("no such request: %q", req.Op)
}

func (s *server) find(name string) *proc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.procs[name]
}

// list describes the process of that name, or all of them.
func (s *server) list(name string) []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for n, p := range s.procs {
		if name != "" && n != name {
			continue
		}
		st := Status{Name: n}
		select {
		case <-p.done:
			st.End = p.end
		default:
			st.Running = true
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// start starts a process; of a machine it waits until that is ready.
func (s *server) start(p Process) error {
	if len(p.Args) == 0 || p.Name == "" {
		return errors.New("a process needs a name and a program")
	}
	if old := s.find(p.Name); old != nil {
		select {
		case <-old.done:
		default:
			return fmt.Errorf("%s runs already", p.Name)
		}
	}
	said, err := s.fork(p)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if said == nil {
		return nil
	}
	return awaitReady(said)
}

// fork starts the process, and returns where a machine says that it is ready.
func (s *server) fork(p Process) (*os.File, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	attr := &syscall.ProcAttr{Dir: "/", Env: p.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	attr.Files = []uintptr{null.Fd(), log.Fd(), log.Fd()}
	var said *os.File
	if p.Machine {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		said = r
		attr.Files = append(attr.Files, w.Fd())
		attr.Sys.Cloneflags = Namespaces
	}
	// The lock keeps collect from seeing the end of a process that is not in the table.
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := syscall.ForkExec(p.Args[0], p.Args, attr)
	if err != nil {
		if said != nil {
			err = errors.Join(err, said.Close())
		}
		return nil, err
	}
	s.procs[p.Name] = &proc{pid: pid, done: make(chan struct{})}
	return said, nil
}
