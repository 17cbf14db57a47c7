//go:build linux

package stage

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// Cluster is a Kubernetes cluster whose nodes are on this machine, so that their namespaces and those of their pods can
// be entered.
type Cluster interface {
	// Config reaches the API server from here.
	Config() (*rest.Config, error)
	// Kubeconfig is a file for programs that are started by Do.
	Kubeconfig() string
	// Do runs a function where programs reach the API server.
	Do(f func() error) error
	// Kubectl runs kubectl and returns what it prints.
	Kubectl(ctx context.Context, args ...string) ([]byte, error)
	// CIDRs are those that tailgate has to be told; none: it finds them.
	CIDRs() []string
	// Load brings image archives to every node.
	Load(ctx context.Context, archives ...string) error
	// Nodes are all nodes, those for tests' pods first, of which there are two at least.
	Nodes() []Node
	// WaitNodes waits until all nodes are Ready.
	WaitNodes(ctx context.Context) error
	// PodNetNS opens the network namespace of a running pod; the caller closes it.
	PodNetNS(ctx context.Context, pod *corev1.Pod) (*netns.Handle, error)
	// Attach connects the world: its hosts and the cluster's nodes and pods reach each other by their own addresses.
	Attach(ctx context.Context, w *world.World) error
	// Upstream is where the cluster's resolver asks about names that are not the cluster's: port 53 of these addresses in
	// that network namespace, which stays the cluster's. It is known once the world is attached.
	Upstream() (*netns.Handle, []netip.Addr)
	// Keep lets the cluster outlive this process.
	Keep() error
	// Down undoes all that was made for the stage.
	Down(ctx context.Context) error
}

// Node is a node of a cluster.
type Node interface {
	Name() string
	// PID is its process 1, as this process sees it. Its files are below /proc/PID/root.
	PID(ctx context.Context) (int, error)
	// NetNS opens its network namespace; the caller closes it.
	NetNS(ctx context.Context) (*netns.Handle, error)
	// Crash ends it as a power cut does. Its disk stays.
	Crash(ctx context.Context) error
	// Start starts one that crashed, and waits until it is Ready. It has the networks for its pods that it had.
	Start(ctx context.Context) error
}

// labCluster is a lab.
type labCluster struct{ *lab.Lab }

func (c labCluster) Do(f func() error) error { return c.Network().Handle().Do(f) }

func (c labCluster) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return c.Lab.Kubectl(ctx, args...).Output()
}

func (labCluster) CIDRs() []string { return nil }

func (c labCluster) Nodes() (all []Node) {
	for _, n := range c.Lab.Nodes() {
		all = append(all, n)
	}
	return all
}

func (c labCluster) Attach(_ context.Context, w *world.World) error {
	_, err := c.Network().Attach(w.Core.Handle(), "lab0",
		world.UnderlayV4, world.UnderlayV6, world.InternetV4.Masked(), world.InternetV6.Masked())
	return err
}

func (c labCluster) Upstream() (*netns.Handle, []netip.Addr) {
	return c.Network().Handle(), c.Plan.ControlPlane
}
