//go:build linux

package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// kindNode is a node of a [kindCluster]: a container on this machine.
type kindNode struct {
	name string
	c    *kindCluster
	was  *corev1.Node // at the time of its crash
}

func (n *kindNode) Name() string { return n.name }

func (n *kindNode) PID(ctx context.Context) (int, error) { return n.c.tool.PID(ctx, n.name) }

func (n *kindNode) NetNS(ctx context.Context) (*netns.Handle, error) {
	pid, err := n.PID(ctx)
	if err != nil {
		return nil, err
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("node %s has the process %d, which is not on this machine: the engine must run here, and not in a virtual machine: %w", n.name, pid, err)
	}
	return ns, err
}

// worldLink is a node's link to the world; nftTable keeps the node from masquerading what its pods send there, as kind's
// network plugin wants of all that leaves the cluster: tests are to see who sent what.
const (
	worldLink = "world0"
	nftTable  = "stage" // not "tailgate…": tests look for what that left
)

// join joins the node to the world.
func (n *kindNode) join(ctx context.Context) error {
	p := n.c.plan.Node(n.name)
	ns, err := n.NetNS(ctx)
	if err != nil {
		return err
	}
	defer ns.Close()
	h := n.c.world.Adopt(n.name, ns)
	for _, a := range p.Addrs {
		switch {
		case a.Is4():
			h.V4 = a
		case a.Is6():
			h.V6 = a
		}
	}
	if err := n.c.world.Join(h, worldLink, p.PodNets...); err != nil {
		return err
	}
	return n.nft(ctx, unmasqueraded)
}

// unmasqueraded gives connections the source address that they have. Only the first chain that gives one counts.
const unmasqueraded = `add table inet ` + nftTable + `; delete table inet ` + nftTable + `
table inet ` + nftTable + ` {
	chain postrouting {
		type nat hook postrouting priority srcnat - 10
		oifname "` + worldLink + `" meta nfproto ipv4 snat ip to ip saddr
		oifname "` + worldLink + `" meta nfproto ipv6 snat ip6 to ip6 saddr
	}
}`

// nft runs commands of nftables on the node.
func (n *kindNode) nft(ctx context.Context, commands string) error {
	ns, err := n.NetNS(ctx)
	if err != nil {
		return err
	}
	defer ns.Close()
	var out []byte
	err = ns.Do(func() (err error) {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("nft on %s: %w: %s", n.name, err, bytes.TrimSpace(out))
	}
	return nil
}

func (n *kindNode) object(ctx context.Context) (*corev1.Node, error) {
	have := new(corev1.Node)
	return have, n.c.client.Get(ctx, client.ObjectKey{Name: n.name}, have)
}

// Crash remembers what the node's object says, for [kindNode.Start].
func (n *kindNode) Crash(ctx context.Context) (err error) {
	if n.was, err = n.object(ctx); err != nil {
		return fmt.Errorf("crash node %s: %w", n.name, err)
	}
	return n.c.tool.Crash(ctx, n.name)
}

// Start makes the node's object anew, if it was deleted: the controllers would give it other networks for its pods, of which
// its plugin would hear, but not those who were told of them. The node may come back with another address.
func (n *kindNode) Start(ctx context.Context) error {
	if n.was == nil {
		return fmt.Errorf("node %s did not crash", n.name)
	}
	again := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: n.was.Labels},
		Spec:       corev1.NodeSpec{PodCIDR: n.was.Spec.PodCIDR, PodCIDRs: n.was.Spec.PodCIDRs, ProviderID: n.was.Spec.ProviderID},
	}
	if err := n.c.client.Create(ctx, again); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make object of node %s: %w", n.name, err)
	}
	since := time.Now()
	if err := n.c.tool.Start(ctx, n.name); err != nil {
		return err
	}
	if err := n.waitReady(ctx, since); err != nil {
		return err
	}
	have, err := n.object(ctx)
	if err != nil {
		return err
	}
	p, err := nodePlan(*have)
	if err != nil {
		return err
	}
	*n.c.plan.Node(n.name) = p
	return n.join(ctx)
}

// waitReady waits until the kubelet says that the node is Ready; what it said before since does not count.
func (n *kindNode) waitReady(ctx context.Context, since time.Time) error {
	err := poll(ctx, func(ctx context.Context) error {
		have, err := n.object(ctx)
		if err != nil {
			return err
		}
		for _, c := range have.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && c.LastHeartbeatTime.After(since) {
				return nil
			}
		}
		return errors.New("it is not")
	})
	if err != nil {
		return fmt.Errorf("wait until node %s is Ready: %w", n.name, err)
	}
	return nil
}
