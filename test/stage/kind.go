//go:build linux

package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/deploy/cidrs"
	"github.com/rajsinghtech/tailgate/test/kind"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// kindCluster is the cluster of package kind. Its nodes are containers of an engine on this machine.
type kindCluster struct {
	tool *kind.Tool
	// made is whether it ends with the stage.
	made       bool
	dir        string
	kubectl    string
	config     *rest.Config
	client     client.Client
	plan       lab.Plan
	cidrs      []netip.Prefix
	nodes      []*kindNode
	namespaces []string

	world    *world.World
	upstream []netip.Addr
	corefile string // as it was; "": it was not changed
}

// readyTime is how long a node may take to be Ready, and the resolver.
const readyTime = 2 * time.Minute

// startKind finds the cluster, or makes it. What it returns is to be ended also when there is an error.
func startKind(ctx context.Context, root string, o Options) (*kindCluster, error) {
	tool, err := kind.Build(ctx, root, o.Out)
	if err != nil {
		return nil, err
	}
	exists, err := tool.Exists(ctx)
	if err != nil {
		return nil, err
	}
	c := &kindCluster{tool: tool, namespaces: append(slices.Clone(o.Namespaces), Namespace)}
	if c.dir, err = os.MkdirTemp("", "tailgate-kind-"); err != nil {
		return nil, err
	}
	if !exists {
		c.made = true
		// The user's own kubeconfig is for clusters of the user's.
		flags := []string{"--kubeconfig", c.Kubeconfig()}
		if o.KindImage != "" {
			flags = append(flags, "--image", o.KindImage)
		}
		if err := tool.Up(ctx, string(o.Family), flags...); err != nil {
			return c, err
		}
	}
	if err := c.connect(ctx); err != nil {
		return c, err
	}
	if c.kubectl, err = findKubectl(ctx, o.Out); err != nil {
		return c, err
	}
	if err := c.look(ctx); err != nil {
		return c, err
	}
	if have := familyOf(c.plan); have != o.Family {
		return c, fmt.Errorf("the kind cluster %s has the family %s, not %s: ask for that one, or end the cluster with go tool task kind:down", kind.Name, have, o.Family)
	}
	return c, c.loadTestImage(ctx, o.Out)
}

// connect makes the clients, and makes sure that the cluster has no tailgate yet.
func (c *kindCluster) connect(ctx context.Context) error {
	text, err := c.tool.Kubeconfig(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig(), text, 0o600); err != nil {
		return err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return fmt.Errorf("read kubeconfig of kind: %w", err)
	}
	c.config.QPS, c.config.Burst = -1, -1 // the API server's own limits do
	if c.client, err = client.New(c.config, client.Options{Scheme: clientgoscheme.Scheme}); err != nil {
		return fmt.Errorf("reach the kind cluster %s: %w", kind.Name, err)
	}
	for _, name := range c.namespaces {
		err := c.client.Get(ctx, client.ObjectKey{Name: name}, new(corev1.Namespace))
		if err == nil {
			c.namespaces = nil // they are somebody else's
			return fmt.Errorf("the kind cluster %s has the namespace %s already, which is to be made: end the cluster with go tool task kind:down, or "+
				"uninstall tailgate as deploy/README.md says and delete the namespace", kind.Name, name)
		}
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("look for namespace %s: %w", name, err)
		}
	}
	return nil
}

// findKubectl returns the user's kubectl, or that of labs.
func findKubectl(ctx context.Context, out io.Writer) (string, error) {
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	b, err := lab.Build(ctx, out, lab.Hyperkube)
	if err != nil {
		return "", fmt.Errorf("kubectl is not in $PATH, and could not be built: %w", err)
	}
	return b.Path(lab.Hyperkube, "kubectl"), nil
}

// look learns who has which address, from the cluster itself. Workers come first among the nodes.
func (c *kindCluster) look(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := c.client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	const controlPlane = "node-role.kubernetes.io/control-plane"
	slices.SortFunc(nodes.Items, func(a, b corev1.Node) int {
		_, x := a.Labels[controlPlane]
		_, y := b.Labels[controlPlane]
		if x != y && x {
			return 1
		} else if x != y {
			return -1
		}
		return strings.Compare(a.Name, b.Name)
	})
	plan := lab.Plan{}
	c.nodes = nil
	for _, n := range nodes.Items {
		p, err := nodePlan(n)
		if err != nil {
			return err
		}
		plan.Nodes = append(plan.Nodes, p)
		c.nodes = append(c.nodes, &kindNode{name: n.Name, c: c})
	}
	if len(c.nodes) < 2 {
		return fmt.Errorf("the kind cluster %s has %d nodes: two workers are needed, as go tool task kind:up makes them", kind.Name, len(c.nodes))
	}
	var err error
	if c.cidrs, err = cidrs.Of(ctx, c.client); err != nil {
		return err
	}
	for _, p := range c.cidrs {
		if slices.ContainsFunc(plan.Nodes, func(n lab.NodePlan) bool { return slices.ContainsFunc(n.PodNets, p.Overlaps) }) {
			plan.PodNets = append(plan.PodNets, p)
		} else {
			plan.ServiceNets = append(plan.ServiceNets, p)
		}
	}
	api, err := c.serviceAddrs(ctx, metav1.NamespaceDefault, "kubernetes")
	if err != nil {
		return err
	}
	plan.API = api[0]
	if plan.DNS, err = c.serviceAddrs(ctx, metav1.NamespaceSystem, "kube-dns"); err != nil {
		return err
	}
	c.plan = plan
	return nil
}

// nodePlan is what a node's object says of its addresses.
func nodePlan(n corev1.Node) (p lab.NodePlan, err error) {
	p.Name = n.Name
	for _, text := range n.Spec.PodCIDRs {
		ps, err := cidrs.Parse(text)
		if err != nil {
			return p, fmt.Errorf("podCIDRs of node %s: %w", n.Name, err)
		}
		p.PodNets = append(p.PodNets, ps...)
	}
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			return p, fmt.Errorf("addresses of node %s: %w", n.Name, err)
		}
		p.Addrs = append(p.Addrs, ip)
	}
	if len(p.PodNets) == 0 || len(p.Addrs) == 0 {
		return p, fmt.Errorf("node %s has no addresses yet: %+v", n.Name, n.Status.Addresses)
	}
	return p, nil
}

// familyOf tells the family of a cluster by its pods' networks.
func familyOf(p lab.Plan) lab.Family {
	v4 := slices.ContainsFunc(p.PodNets, func(p netip.Prefix) bool { return p.Addr().Is4() })
	v6 := slices.ContainsFunc(p.PodNets, func(p netip.Prefix) bool { return p.Addr().Is6() })
	switch {
	case v4 && v6:
		return lab.Dual
	case v6:
		return lab.V6
	}
	return lab.V4
}

func (c *kindCluster) serviceAddrs(ctx context.Context, namespace, name string) (all []netip.Addr, err error) {
	var svc corev1.Service
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &svc); err != nil {
		return nil, fmt.Errorf("look for Service %s: %w", name, err)
	}
	for _, ip := range svc.Spec.ClusterIPs {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, fmt.Errorf("addresses of Service %s: %w", name, err)
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the Service %s has no address", name)
	}
	return all, nil
}

// loadTestImage brings the image of labs' test pods to the nodes.
func (c *kindCluster) loadTestImage(ctx context.Context, out io.Writer) error {
	b, err := lab.Build(ctx, out, lab.Images)
	if err != nil {
		return err
	}
	return c.tool.Load(ctx, b.ImageArchive())
}

func (c *kindCluster) Config() (*rest.Config, error) { return rest.CopyConfig(c.config), nil }
func (c *kindCluster) Kubeconfig() string            { return filepath.Join(c.dir, "kubeconfig") }
func (c *kindCluster) Do(f func() error) error       { return f() }

func (c *kindCluster) Load(ctx context.Context, archives ...string) error {
	return c.tool.Load(ctx, archives...)
}

func (c *kindCluster) CIDRs() (all []string) {
	for _, p := range c.cidrs {
		all = append(all, p.String())
	}
	return all
}

func (c *kindCluster) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

func (c *kindCluster) Nodes() (all []Node) {
	for _, n := range c.nodes {
		all = append(all, n)
	}
	return all
}

func (c *kindCluster) WaitNodes(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.waitReady(ctx, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// PodNetNS finds a process of the pod by its control group, which has the pod's UID in its name, however many namespaces
// and hierarchies there are.
func (c *kindCluster) PodNetNS(_ context.Context, pod *corev1.Pod) (*netns.Handle, error) {
	ns, err := podNetNS(string(pod.UID))
	if err != nil {
		return nil, fmt.Errorf("find the namespace of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return ns, nil
}

func podNetNS(uid string) (*netns.Handle, error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, dir := range all {
		if !inPod(dir, uid) {
			continue
		}
		ns, err := netns.Open(dir + "/ns/net")
		if err != nil {
			continue // it has just ended
		}
		if inPod(dir, uid) {
			return ns, nil // the number was that of a process of the pod before and after
		}
		if err := ns.Close(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("no process of it runs")
}

// inPod reports whether a process is in a pod. The name is as the kubelet writes it: with the UID as it is, or with
// underscores where systemd makes the control groups.
func inPod(proc, uid string) bool {
	b, err := os.ReadFile(proc + "/cgroup")
	text := string(b)
	return err == nil && (strings.Contains(text, "pod"+uid) || strings.Contains(text, "pod"+strings.ReplaceAll(uid, "-", "_")))
}

// Attach joins each node to the world, and makes the world's core the upstream of the cluster's resolver.
func (c *kindCluster) Attach(ctx context.Context, w *world.World) error {
	c.world = w
	for _, n := range c.nodes {
		if err := n.join(ctx); err != nil {
			return err
		}
	}
	c.upstream = []netip.Addr{w.Core.V4}
	if c.plan.PodNets[0].Addr().Is6() {
		c.upstream = []netip.Addr{w.Core.V6}
	}
	return c.setUpstream(ctx)
}

func (c *kindCluster) Upstream() (*netns.Handle, []netip.Addr) {
	return c.world.Core.Handle(), c.upstream
}

// forward is the line of the Corefile that names the upstream.
var forward = regexp.MustCompile(`(?m)^(\s*forward \. )[^{\n]*`)

// setUpstream writes the upstream into the resolver's configuration.
func (c *kindCluster) setUpstream(ctx context.Context) error {
	var cm corev1.ConfigMap
	if err := c.client.Get(ctx, coreDNS, &cm); err != nil {
		return fmt.Errorf("read configuration of CoreDNS: %w", err)
	}
	was := cm.Data["Corefile"]
	if !forward.MatchString(was) {
		return fmt.Errorf("the configuration of CoreDNS forwards to nobody:\n%s", was)
	}
	c.corefile = was
	return c.configureDNS(ctx, forward.ReplaceAllString(was, "${1}"+c.upstream[0].String()+" "))
}

var coreDNS = client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "coredns"}

// configureDNS gives CoreDNS a configuration, and waits until all of its pods have it.
func (c *kindCluster) configureDNS(ctx context.Context, corefile string) error {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: coreDNS.Namespace, Name: coreDNS.Name}}
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"data":{"Corefile":%q}}`, corefile))
	if err := c.client.Patch(ctx, cm, patch); err != nil {
		return fmt.Errorf("configure CoreDNS: %w", err)
	}
	// A pod of another template is another pod; CoreDNS itself looks only every half a minute.
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: coreDNS.Namespace, Name: coreDNS.Name}}
	patch = client.RawPatch("application/merge-patch+json",
		fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"tailgate.dev/configured":%q}}}}}`, time.Now().Format(time.RFC3339Nano)))
	if err := c.client.Patch(ctx, d, patch); err != nil {
		return fmt.Errorf("configure CoreDNS: %w", err)
	}
	err := poll(ctx, func(ctx context.Context) error {
		if err := c.client.Get(ctx, coreDNS, d); err != nil {
			return err
		}
		st := d.Status
		if st.ObservedGeneration == d.Generation && st.UpdatedReplicas == *d.Spec.Replicas && st.AvailableReplicas == st.UpdatedReplicas && st.Replicas == st.UpdatedReplicas {
			return nil
		}
		return fmt.Errorf("of %d pods %d are configured and %d ready", st.Replicas, st.UpdatedReplicas, st.AvailableReplicas)
	})
	if err != nil {
		return fmt.Errorf("wait for CoreDNS: %w", err)
	}
	return nil
}

// poll tries until there is no error, and returns the last when time is up.
func poll(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, readyTime, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// Keep has nothing to do: the engine keeps containers.
func (c *kindCluster) Keep() error { return os.RemoveAll(c.dir) }

// Down ends a cluster that was made for the stage. From another it takes what the stage brought.
func (c *kindCluster) Down(ctx context.Context) error {
	var errs []error
	if c.made {
		errs = append(errs, c.tool.Down(ctx))
	} else {
		errs = append(errs, c.leave(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// leave undoes what was done to a cluster that stays. The nodes' links go with the world.
func (c *kindCluster) leave(ctx context.Context) error {
	var errs []error
	if c.client != nil {
		for _, name := range c.namespaces {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
			errs = append(errs, client.IgnoreNotFound(c.client.Delete(ctx, ns)))
		}
	}
	if c.corefile != "" {
		errs = append(errs, c.configureDNS(ctx, c.corefile))
	}
	if c.world != nil {
		for _, n := range c.nodes {
			errs = append(errs, n.nft(ctx, "delete table inet "+nftTable))
		}
	}
	return errors.Join(errs...)
}
