package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// Kubeconfig is a file for programs that are in the lab's network, as those are that [Lab.Command] runs.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.dir, "kubeconfig") }

// Config returns a configuration for client-go that works from here: its connections are made in the
// control plane's namespace. It may do whatever it likes, without rate limits.
func (l *Lab) Config() (*rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of lab %s: %w", l.Options.Name, err)
	}
	c.Dial = l.Network().Dial
	c.QPS, c.Burst = -1, -1
	return c, nil
}

// Client returns a typed client; see [Lab.Config].
func (l *Lab) Client() (*kubernetes.Clientset, error) {
	c, err := l.Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(c)
}

// Kubectl prepares kubectl, in the lab's network.
func (l *Lab) Kubectl(ctx context.Context, args ...string) *Cmd {
	return l.Network().Command(ctx, l.bins.Path(Hyperkube, "kubectl"), args...)
}

// startControlPlane starts the processes and waits until the API server is ready. When one ends before that,
// so does the wait. Those that ask the API server come after it: what they ask too early they ask again only
// after ever longer waits.
func (l *Lab) startControlPlane(ctx context.Context) error {
	c, err := l.dial(ctx, machine.First)
	if err != nil {
		return err
	}
	defer c.Close()
	cs, err := l.Client()
	if err != nil {
		return err
	}
	for i, args := range controlPlane(l.Plan) {
		if i == storage {
			if err := l.awaitAPI(ctx, c, cs.RESTClient()); err != nil {
				return err
			}
		}
		if err := c.Start(ctx, process(l.dir, machine.First, args)); err != nil {
			return err
		}
	}
	return nil
}

// awaitAPI waits until the API server is ready, which it is when it has made the roles of everyone else.
func (l *Lab) awaitAPI(ctx context.Context, c *machine.Client, api rest.Interface) error {
	var ended error
	err := poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if ended = l.checkControlPlane(ctx, c); ended != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := api.Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w: %s", err, l.logTail(machine.First, "kube-apiserver"))
	}
	return ended
}

// checkControlPlane says which process has ended, and its last words.
func (l *Lab) checkControlPlane(ctx context.Context, c *machine.Client) error {
	all, err := c.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.Running && !strings.HasPrefix(p.Name, machinePrefix) {
			return fmt.Errorf("%s ended (%s): %s", p.Name, p.End, l.logTail(machine.First, p.Name))
		}
	}
	return nil
}

// deploy makes the nodes' objects and CoreDNS.
func (l *Lab) deploy(ctx context.Context) error {
	for _, n := range l.Nodes() {
		if err := n.ensureObject(ctx); err != nil {
			return err
		}
	}
	manifest, err := render("coredns.yaml", newValues(l.Options, l.Plan, nil, ""))
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, manifest); err != nil {
		return fmt.Errorf("deploy CoreDNS: %w", err)
	}
	return nil
}

// ensureObject gives the node's object, which it makes if the kubelet has not yet, the networks that
// the plan has for its pods. Once set they stay.
func (n *Node) ensureObject(ctx context.Context) error {
	cs, err := n.l.Client()
	if err != nil {
		return err
	}
	var cidrs []string
	for _, p := range n.Plan.PodNets {
		cidrs = append(cidrs, p.String())
	}
	nodes := cs.CoreV1().Nodes()
	_, err = nodes.Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name()}, Spec: corev1.NodeSpec{PodCIDR: cidrs[0], PodCIDRs: cidrs},
	}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return fmt.Errorf("make object of node %s: %w", n.Name(), err)
		}
		return nil
	}
	have, err := nodes.Get(ctx, n.Name(), metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read object of node %s: %w", n.Name(), err)
	}
	if slices.Equal(have.Spec.PodCIDRs, cidrs) {
		return nil
	}
	patch := fmt.Appendf(nil, `{"spec":{"podCIDR":%q,"podCIDRs":["%s"]}}`, cidrs[0], strings.Join(cidrs, `","`))
	if _, err := nodes.Patch(ctx, n.Name(), types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("set pod networks of node %s: %w", n.Name(), err)
	}
	return nil
}

// settle waits until a node that was started, or of which a service was, is Ready.
func (n *Node) settle(ctx context.Context, since time.Time) error {
	if err := n.ensureObject(ctx); err != nil {
		return err
	}
	return n.waitReady(ctx, since)
}

// waitReady waits until the kubelet says that the node is Ready; what it said before since does not count.
func (n *Node) waitReady(ctx context.Context, since time.Time) error {
	cs, err := n.l.Client()
	if err != nil {
		return err
	}
	err = poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		have, err := cs.CoreV1().Nodes().Get(ctx, n.Name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range have.Status.Conditions {
			if c.Type != corev1.NodeReady {
				continue
			}
			if c.Status == corev1.ConditionTrue && c.LastHeartbeatTime.After(since) {
				return nil
			}
			return fmt.Errorf("it is not: %s %s", c.Status, c.Message)
		}
		return errors.New("its kubelet has said nothing yet")
	})
	if err != nil {
		return fmt.Errorf("wait until node %s is Ready: %w", n.Name(), err)
	}
	return nil
}

// WaitNodes waits until all nodes are Ready.
func (l *Lab) WaitNodes(ctx context.Context) error {
	for _, n := range l.Nodes() {
		if err := n.waitReady(ctx, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// waitDNS waits until the resolver's pod is ready.
func (l *Lab) waitDNS(ctx context.Context) error {
	cs, err := l.Client()
	if err != nil {
		return err
	}
	err = poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		d, err := cs.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas < 1 {
			err = fmt.Errorf("no pod of it is ready; %s", lastWarning(ctx, cs))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for CoreDNS: %w", err)
	}
	return nil
}

// lastWarning is what went wrong last in the cluster's own namespace.
func lastWarning(ctx context.Context, cs kubernetes.Interface) string {
	events, err := cs.CoreV1().Events("kube-system").List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		return err.Error()
	}
	last := slices.MaxFunc(append(events.Items, corev1.Event{Message: "nothing has gone wrong yet"}), func(a, b corev1.Event) int {
		return a.LastTimestamp.Compare(b.LastTimestamp.Time)
	})
	return last.Message
}

// resources are the plural names of the kinds that [Lab.Apply] knows beside "KINDs".
var resources = map[string]string{"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "PriorityClass": "priorityclasses"}

// clustered are the kinds without a namespace.
var clustered = []string{
	"Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

// Apply applies objects of Kubernetes' own kinds, in YAML, server side. Those without a namespace
// are put in default.
func (l *Lab) Apply(ctx context.Context, manifest []byte) error {
	c, err := l.Config()
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfig(c)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		var u unstructured.Unstructured
		if err := docs.Decode(&u); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if u.Object == nil {
			continue
		}
		if err := apply(ctx, dyn, &u); err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
}

func apply(ctx context.Context, dyn dynamic.Interface, u *unstructured.Unstructured) error {
	gv, err := schema.ParseGroupVersion(u.GetAPIVersion())
	if err != nil {
		return err
	}
	plural := resources[u.GetKind()]
	if plural == "" {
		plural = strings.ToLower(u.GetKind()) + "s"
	}
	r := dyn.Resource(gv.WithResource(plural))
	var rs dynamic.ResourceInterface = r
	if !slices.Contains(clustered, u.GetKind()) {
		ns := u.GetNamespace()
		if ns == "" {
			ns = metav1.NamespaceDefault
		}
		rs = r.Namespace(ns)
	}
	_, err = rs.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: "lab", Force: true})
	return err
}
