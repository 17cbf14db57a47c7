package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Node is a node of a lab, which may be up or down.
type Node struct {
	// Plan has its name and addresses.
	Plan *NodePlan

	l *Lab
}

// Nodes returns all nodes.
func (l *Lab) Nodes() []*Node {
	var all []*Node
	for i := range l.Plan.Nodes {
		all = append(all, &Node{Plan: &l.Plan.Nodes[i], l: l})
	}
	return all
}

// Node returns the node of that name; the error says which there are.
func (l *Lab) Node(name string) (*Node, error) {
	var names []string
	for _, n := range l.Nodes() {
		if n.Name() == name {
			return n, nil
		}
		names = append(names, n.Name())
	}
	return nil, fmt.Errorf("lab %s has no node %q: it has %s", l.Options.Name, name, strings.Join(names, ", "))
}

// Name is the node's, and its hostname.
func (n *Node) Name() string { return n.Plan.Name }

// machinePrefix begins the names of nodes' processes in the first machine.
const machinePrefix = "machine-"

// machineName is what the first machine calls the process of a node.
func (n *Node) machineName() string { return machinePrefix + n.Name() }

// boot starts the node's machine and all in it; what asks the API server waits for api to be closed.
func (n *Node) boot(ctx context.Context, api <-chan struct{}) error {
	first, err := n.l.dial(ctx, machine.First)
	if err != nil {
		return err
	}
	defer first.Close()
	err = first.Start(ctx, machine.Process{
		Name: n.machineName(), Args: []string{filepath.Join(binDir, "labd"), "machine", machine.SpecFile(n.l.dir, n.Name())},
		Env: environment(n.l.dir), Log: logFile(n.l.dir, n.Name(), "labd"), Machine: true,
	})
	if err != nil {
		return err
	}
	if err := n.l.setupNode(ctx, n.Plan); err != nil {
		return err
	}
	c, err := n.l.dial(ctx, n.Name())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := n.start(ctx, c, Containerd); err != nil {
		return err
	}
	if err := n.loadAll(ctx, c.PID()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-api:
	}
	for _, s := range Services()[1:] {
		if err := n.start(ctx, c, s); err != nil {
			return err
		}
	}
	return nil
}

// start starts a service, and waits for containerd, without which the kubelet takes its time.
func (n *Node) start(ctx context.Context, c *machine.Client, s Service) error {
	if err := c.Start(ctx, process(n.l.dir, n.Name(), s.args(n.Plan))); err != nil {
		return fmt.Errorf("start %s on %s: %w", s, n.Name(), err)
	}
	if s != Containerd {
		return nil
	}
	return n.awaitContainerd(ctx, c)
}

// awaitContainerd waits until its socket answers.
func (n *Node) awaitContainerd(ctx context.Context, c *machine.Client) error {
	socket := fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", c.PID())
	err := poll(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("wait for containerd: %w: %s", err, n.l.logTail(n.Name(), string(Containerd)))
	}
	return nil
}

// logTail is the end of a process's log.
func (l *Lab) logTail(on, name string) string {
	b, err := os.ReadFile(logFile(l.dir, on, name))
	if err != nil {
		return err.Error()
	}
	return tail(string(b), 5)
}

// loadAll imports the lab's images and those of its options, unless they are on the node's disk.
func (n *Node) loadAll(ctx context.Context, pid int) error {
	done := n.Path("images-loaded")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	for _, f := range append([]string{n.l.bins.ImageArchive()}, n.l.Options.Images...) {
		if err := n.load(ctx, pid, f); err != nil {
			return err
		}
	}
	return writeFile(done, nil)
}

func (n *Node) load(ctx context.Context, pid int, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	defer f.Close()
	c := exec.CommandContext(ctx, filepath.Join(binDir, "ctr"), "--namespace=k8s.io", "images", "import", "-")
	c.Stdin, c.Env = f, environment(n.l.dir)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := machine.Run(pid, c); err != nil {
		return fmt.Errorf("load images of %s on %s: %w: %s", file, n.Name(), err, tail(out.String(), 5))
	}
	return nil
}

// Load imports an image archive into every node that is up.
func (l *Lab) Load(ctx context.Context, archives ...string) error {
	for _, n := range l.Nodes() {
		c, err := l.dial(ctx, n.Name())
		if errors.Is(err, machine.ErrDown) {
			continue
		}
		if err != nil {
			return err
		}
		for _, a := range archives {
			if err := n.load(ctx, c.PID(), a); err != nil {
				return errors.Join(err, c.Close())
			}
		}
		_ = c.Close()
	}
	return nil
}

// Crash ends the node as a power cut does: at once, without a word to anyone. Its disk stays.
func (n *Node) Crash(ctx context.Context) error {
	first, err := n.l.dial(ctx, machine.First)
	if err != nil {
		return err
	}
	defer first.Close()
	cgroup := nodeCgroup(n.l.dir, n.Name())
	err = errors.Join(
		machine.Thaw(ctx, cgroup), // what is frozen does not die
		first.Stop(ctx, n.machineName(), syscall.SIGKILL),
		machine.RemoveCgroup(ctx, cgroup),
		n.l.removePort(n.Name()))
	if err != nil {
		return fmt.Errorf("crash %s: %w", n.Name(), err)
	}
	return nil
}

// Start starts a node that is down, with the disk that it had, and waits until it is Ready.
func (n *Node) Start(ctx context.Context) error {
	if err := n.expect(ctx, false); err != nil {
		return err
	}
	if err := writeNode(n.l.bins, n.l.Options, n.l.Plan, n.Plan, n.l.dir); err != nil {
		return err
	}
	since := time.Now()
	ready := make(chan struct{})
	close(ready)
	if err := n.boot(ctx, ready); err != nil {
		return err
	}
	return n.settle(ctx, since)
}

// Reboot is a crash, if the node is up, and a start.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.Crash(ctx); err != nil {
		return err
	}
	return n.Start(ctx)
}

// expect says when the node is not up, or not down, as the caller wants it.
func (n *Node) expect(ctx context.Context, up bool) error {
	c, err := n.l.dial(ctx, n.Name())
	if err == nil {
		_ = c.Close()
	}
	switch {
	case err == nil && !up:
		return fmt.Errorf("node %s is up already", n.Name())
	case errors.Is(err, machine.ErrDown) && up:
		return fmt.Errorf("node %s is down: start it first", n.Name())
	case err != nil && !errors.Is(err, machine.ErrDown):
		return err
	}
	return nil
}

// Freeze stops every process of the node, containers included, until [Node.Thaw]. Its network stack goes on.
func (n *Node) Freeze(ctx context.Context) error {
	if err := n.expect(ctx, true); err != nil {
		return err
	}
	return machine.Freeze(ctx, nodeCgroup(n.l.dir, n.Name()))
}

// Thaw undoes Freeze.
func (n *Node) Thaw(ctx context.Context) error {
	return machine.Thaw(ctx, nodeCgroup(n.l.dir, n.Name()))
}

// Cut takes the node off the network, as a pulled cable does.
func (n *Node) Cut(ctx context.Context) error { return n.setPort(ctx, netlink.LinkSetDown) }

// Join undoes Cut.
func (n *Node) Join(ctx context.Context) error { return n.setPort(ctx, netlink.LinkSetUp) }

func (n *Node) setPort(ctx context.Context, set func(netlink.Link) error) error {
	if err := n.expect(ctx, true); err != nil {
		return err
	}
	return n.l.core.Do(func() error {
		link, err := netlink.LinkByName(n.Name())
		if err == nil {
			err = set(link)
		}
		if err != nil {
			return fmt.Errorf("set the link of %s: %w", n.Name(), err)
		}
		return nil
	})
}

// Restart ends services of the node, all if none is named, and starts them again; containers go on. It waits
// until the node is Ready. A Node object that was deleted comes back by this, and not before.
func (n *Node) Restart(ctx context.Context, services ...Service) error {
	if err := n.expect(ctx, true); err != nil {
		return err
	}
	if len(services) == 0 {
		services = Services()
	}
	c, err := n.l.dial(ctx, n.Name())
	if err != nil {
		return err
	}
	defer c.Close()
	since := time.Now()
	for _, s := range services {
		if s.args(n.Plan) == nil {
			return fmt.Errorf("there is no service %q: use %s, %s or %s", s, Containerd, Kubelet, KubeProxy)
		}
		if err := c.Stop(ctx, string(s), syscall.SIGTERM); err != nil {
			return err
		}
		if err := n.start(ctx, c, s); err != nil {
			return err
		}
	}
	return n.settle(ctx, since)
}

// PID is the node's process 1, as the caller's namespace numbers it.
func (n *Node) PID(ctx context.Context) (int, error) {
	c, err := n.l.dial(ctx, n.Name())
	if err != nil {
		return 0, err
	}
	return c.PID(), c.Close()
}

// NetNS opens the node's network namespace; the caller closes it.
func (n *Node) NetNS(ctx context.Context) (*netns.Handle, error) {
	return n.l.machineNetNS(ctx, n.Name())
}

// Run runs a command in all namespaces of the node, and waits for it. The program's path and folder are the
// node's; an Env of nil is the one that the node's services have.
func (n *Node) Run(ctx context.Context, c *exec.Cmd) error {
	pid, err := n.PID(ctx)
	if err != nil {
		return err
	}
	if c.Env == nil {
		c.Env = environment(n.l.dir)
	}
	return machine.Run(pid, c)
}

// Path is where a file of the node's /etc, /opt or /var is on this machine, whether the node is up or not.
func (n *Node) Path(file string) string { return filepath.Join(n.l.dir, n.Name(), file) }
