package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// PodNetNS opens the network namespace of a running pod; the caller closes it. A pod on the host network
// has its node's.
func (l *Lab) PodNetNS(_ context.Context, pod *corev1.Pod) (*netns.Handle, error) {
	pid, err := l.podPID(pod)
	if err != nil {
		return nil, fmt.Errorf("find the namespace of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	// The number was that of a process of the pod before and after.
	if again, err := l.podPID(pod); err != nil || again != pid {
		return nil, errors.Join(fmt.Errorf("pod %s/%s is just ending or starting", pod.Namespace, pod.Name), err, ns.Close())
	}
	return ns, nil
}

// podPID finds a process of the pod by the control groups that the kubelet makes for each.
func (l *Lab) podPID(pod *corev1.Pod) (int, error) {
	if pod.Spec.NodeName == "" {
		return 0, errors.New("it has no node yet")
	}
	hs, err := machine.Hierarchies()
	if err != nil {
		return 0, err
	}
	top := filepath.Join(hs[0].Dir, nodeCgroup(l.dir, pod.Spec.NodeName), "kubepods")
	var files []string
	for _, class := range []string{"", "burstable", "besteffort"} {
		found, err := filepath.Glob(filepath.Join(top, class, "pod"+string(pod.UID), "*", "cgroup.procs"))
		if err != nil {
			return 0, err
		}
		files = append(files, found...)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a container that has just gone
		}
		var pid int
		if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &pid); err == nil && pid > 0 {
			return pid, nil
		}
	}
	return 0, errors.New("no process of it runs")
}

// Status is how a lab is.
type Status struct {
	Name    string
	Options Options
	// State is "up", "starting" or "dead": a supervisor that was killed leaves a dead lab, of which
	// [Down] removes the rest.
	State   string
	Started time.Time
	// Machines are the control plane's and the nodes'.
	Machines []MachineStatus
}

// MachineStatus is how a machine is.
type MachineStatus struct {
	Name string
	// Up is whether it runs; a node that does not has crashed.
	Up bool
	// Processes are those that the lab started, "kubelet" or, when it has ended, "kubelet (exit status 1)".
	Processes []string
}

// List tells how the labs in a folder are; "" is the default of [Options].
func List(ctx context.Context, folder string) ([]Status, error) {
	o, err := Options{Dir: folder}.fill()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(o.Dir, "*", filepath.Base(stateFile(""))))
	if err != nil {
		return nil, fmt.Errorf("look for labs: %w", err)
	}
	var all []Status
	for _, f := range files {
		dir := filepath.Dir(f)
		s, err := readState(dir)
		if err != nil {
			continue // it has just gone
		}
		all = append(all, status(ctx, dir, s))
	}
	return all, nil
}

func status(ctx context.Context, dir string, s state) Status {
	st := Status{Name: filepath.Base(dir), Options: s.Options, Started: s.Started, State: "starting"}
	if s.Up {
		st.State = "up"
	}
	names := []string{machine.First}
	for i := range s.Options.Nodes {
		names = append(names, nodeName(i))
	}
	for _, name := range names {
		m := MachineStatus{Name: name}
		if c, err := machine.Dial(ctx, machine.SocketFile(dir, name)); err == nil {
			m.Up = true
			ps, _ := c.List(ctx) // none, when it ends meanwhile
			for _, p := range ps {
				if strings.HasPrefix(p.Name, machinePrefix) {
					continue
				}
				if !p.Running {
					p.Name += " (" + p.End + ")"
				}
				m.Processes = append(m.Processes, p.Name)
			}
			_ = c.Close()
		}
		st.Machines = append(st.Machines, m)
	}
	if !st.Machines[0].Up && s.Up {
		st.State = "dead"
	}
	return st
}
