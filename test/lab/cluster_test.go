package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// cluster is a lab with a web server on each node.
type cluster struct {
	*lab.Lab
	cs *kubernetes.Clientset
}

func newCluster(ctx context.Context, t *testing.T, o lab.Options) *cluster {
	t.Helper()
	c := &cluster{Lab: start(ctx, t, o)}
	var err error
	if c.cs, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, manifest); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		c.awaitWeb(ctx, t, n.Name())
	}
	return c
}

// awaitWeb waits until the web server on a node is ready.
func (c *cluster) awaitWeb(ctx context.Context, t *testing.T, node string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	d := eventually(ctx, t, time.Minute, func(ctx context.Context) error {
		var err error
		pod, err = c.web(ctx, node)
		return err
	})
	t.Logf("web server on %s ready after %v", node, d.Round(10*time.Millisecond))
	return pod
}

// web returns the ready web server on a node.
func (c *cluster) web(ctx context.Context, node string) (*corev1.Pod, error) {
	pods, err := c.cs.CoreV1().Pods("default").List(ctx, metav1.ListOptions{
		LabelSelector: "app=web", FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil {
		return nil, err
	}
	for _, p := range pods.Items {
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				return &p, nil
			}
		}
	}
	return nil, fmt.Errorf("no web server of %d on %s is ready", len(pods.Items), node)
}

func (c *cluster) mustWeb(ctx context.Context, t *testing.T, node string) *corev1.Pod {
	t.Helper()
	p, err := c.web(ctx, node)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// addrs are a pod's.
func addrs(p *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range p.Status.PodIPs {
		all = append(all, netip.MustParseAddr(ip.IP))
	}
	return all
}

// testReach tries all ways to a pod that a cluster promises. What changes takes a moment to get around.
func (c *cluster) testReach(t *testing.T) {
	ctx := t.Context()
	nodes := c.Nodes()
	from, to := c.mustWeb(ctx, t, nodes[0].Name()), c.mustWeb(ctx, t, nodes[len(nodes)-1].Name())
	answers := func(want []string, command ...string) {
		t.Helper()
		eventually(ctx, t, 20*time.Second, func(ctx context.Context) error {
			out, err := in(ctx, c.Lab, from.Name, command...)
			for _, w := range want {
				if err == nil && !strings.Contains(out, w) {
					err = fmt.Errorf("%s: %q has no %q", strings.Join(command, " "), out, w)
				}
			}
			return err
		})
	}
	if got, want := len(addrs(to)), len(c.Plan.PodNets); got != want {
		t.Fatalf("a pod has %d addresses, want %d: %v", got, want, addrs(to))
	}
	for i, a := range addrs(to) {
		if n := c.Plan.Node(to.Spec.NodeName); !n.PodNets[i].Contains(a) {
			t.Errorf("pod address %v is not in its node's %v", a, n.PodNets[i])
		}
		// The server sees the client's own address.
		answers([]string{"host " + to.Name, "remote " + remote(addrs(from)[i])}, "get", "http://"+netip.AddrPortFrom(a, 8080).String())
		answers(nil, "ping", "-n", "1", a.String())
		answers([]string{"host " + to.Name}, "udp", "-timeout=1s", netip.AddrPortFrom(a, 9000).String())
	}
	svc, err := c.cs.CoreV1().Services("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ip := range svc.Spec.ClusterIPs {
		answers([]string{"host web-"}, "get", "http://"+net.JoinHostPort(ip, "80"))
	}
	answers([]string{"host web-"}, "get", "http://web.default.svc.cluster.local")
	answers(svc.Spec.ClusterIPs, "lookup", "web")
	answers([]string{c.Plan.API.String()}, "lookup", "kubernetes.default.svc.cluster.local")
	for _, a := range c.Plan.Node(to.Spec.NodeName).Addrs {
		answers([]string{"host " + to.Name}, "get", "http://"+netip.AddrPortFrom(a, 18080).String())
	}
	if out := kubectl(ctx, t, c.Lab, "logs", to.Name); !strings.Contains(out, "serving HTTP") {
		t.Errorf("kubectl logs gives %q", out)
	}
}

// remote is how an address begins a client's, with a port.
func remote(a netip.Addr) string {
	return strings.TrimSuffix(netip.AddrPortFrom(a, 0).String(), "0")
}

// TestFamilies starts a small cluster of one family each, the second with the other kind of pod network.
func TestFamilies(t *testing.T) {
	for _, o := range []lab.Options{{Family: lab.V4, CNI: lab.Bridge}, {Family: lab.V6, CNI: lab.PTP}} {
		t.Run(string(o.Family), func(t *testing.T) {
			before := snapshot(t)
			o.Name, o.Dir, o.Nodes = "t-"+string(o.Family), options("").Dir, 1
			c := newCluster(t.Context(), t, o)
			t.Run("reach", c.testReach)
			if err := c.Down(t.Context()); err != nil {
				t.Fatal(err)
			}
			sameAgain(t.Context(), t, before)
		})
	}
}

func TestLab(t *testing.T) {
	ctx := t.Context()
	before := snapshot(t)
	c := newCluster(ctx, t, options("t-dual"))
	ok := t.Run("reach", c.testReach) &&
		t.Run("private folders", c.testFolders) &&
		t.Run("configuration arrives", c.testConfigMap) &&
		t.Run("hosts beside the nodes", c.testAttach) &&
		t.Run("open", c.testOpen) &&
		t.Run("restart services", c.testRestart) &&
		t.Run("node deleted", c.testDeleted) &&
		t.Run("freeze and thaw", c.testFreeze) &&
		t.Run("crash and return", c.testCrash) &&
		t.Run("cut and join", c.testCut) &&
		t.Run("reach again", c.testReach)
	if !ok {
		return
	}
	// Frozen, it must end all the same.
	if err := c.Nodes()[1].Freeze(ctx); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	if err := c.Down(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("down in %v", time.Since(begin).Round(10*time.Millisecond))
	sameAgain(ctx, t, before)
}

// testFolders wants what pods write to their node not to be the machine's, nor another node's.
func (c *cluster) testFolders(t *testing.T) {
	ctx := t.Context()
	one, two := c.Nodes()[0], c.Nodes()[1]
	for _, dir := range []string{"/var/lib/tailgate", "/run/tailgate", "/etc/cni/net.d", "/opt/cni/bin"} {
		file := filepath.Join(dir, fmt.Sprintf("lab-test-%d", os.Getpid()))
		if err := one.Run(ctx, exec.CommandContext(ctx, "/bin/sh", "-c", "echo x >"+file)); err != nil {
			t.Errorf("write %s: %v", file, err)
		}
		if err := two.Run(ctx, exec.CommandContext(ctx, "/bin/sh", "-c", "test ! -e "+file)); err != nil {
			t.Errorf("%s of one node is there on the other: %v", file, err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s of a node is there on the machine", file)
		}
	}
	if _, err := os.Stat(one.Path("etc/cni/net.d/10-lab.conflist")); err != nil {
		t.Error(err)
	}
}

// testConfigMap measures how long a change takes to be seen in a pod.
func (c *cluster) testConfigMap(t *testing.T) {
	ctx := t.Context()
	pod := c.mustWeb(ctx, t, "n1")
	patch := []byte(`{"data":{"value":"two"}}`)
	if _, err := c.cs.CoreV1().ConfigMaps("default").Patch(ctx, "config", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	d := eventually(ctx, t, 10*time.Second, func(ctx context.Context) error {
		out, err := in(ctx, c.Lab, pod.Name, "cat", "/etc/config/value")
		if err == nil && out != "two" {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	t.Logf("a changed ConfigMap arrived after %v", d.Round(10*time.Millisecond))
}

// testAttach puts another network beside the nodes: pods reach it, and what is behind it, and are reached.
func (c *cluster) testAttach(t *testing.T) {
	ctx := t.Context()
	w, err := world.New(ctx, "tlab")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	at, err := c.Network().Attach(w.Core.Handle(), "lab0", world.UnderlayV4, world.UnderlayV6)
	if err != nil {
		t.Fatal(err)
	}
	host, err := w.AddHost("a")
	if err != nil {
		t.Fatal(err)
	}
	pod := c.mustWeb(ctx, t, "n2")
	for i, a := range []netip.Addr{at.V4(), at.V6(), host.V4, host.V6} {
		h := w.Core
		if i > 1 {
			h = host
		}
		ln, err := h.Listen("tcp", netip.AddrPortFrom(a, 8000).String())
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "remote %s\n", r.RemoteAddr)
		})}
		go func() { _ = srv.Serve(ln) }()
		out, err := in(ctx, c.Lab, pod.Name, "get", "http://"+netip.AddrPortFrom(a, 8000).String())
		if err != nil {
			t.Error(err)
		}
		podAddr := addrs(pod)[i%2]
		if !strings.Contains(out, podAddr.String()) {
			t.Errorf("%v was reached from %q, want %v", a, out, podAddr)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		conn, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(podAddr, 9000).String())
		if err != nil {
			t.Errorf("%s to pod: %v", h.Name, err)
			continue
		}
		_ = conn.Close()
	}
	second, err := c.Network().Attach(host.Handle(), "lab0")
	if err != nil {
		t.Fatal(err)
	}
	if second.V4() == at.V4() {
		t.Errorf("two hosts have the address %v", at.V4())
	}
	if err := errors.Join(second.Detach(), at.Detach()); err != nil {
		t.Error(err)
	}
}

// testOpen finds the running lab again, as another process would.
func (c *cluster) testOpen(t *testing.T) {
	ctx := t.Context()
	o := options(c.Options.Name)
	again, err := lab.Open(ctx, o.Dir, o.Name)
	if err != nil {
		t.Fatal(err)
	}
	if out := kubectl(ctx, t, again, "get", "--raw=/readyz"); out != "ok" {
		t.Errorf("the API server is %q", out)
	}
	if same, err := lab.Up(ctx, o); err != nil || same.Plan.Number != c.Plan.Number {
		t.Errorf("a second start gives %v", err)
	}
	o.CNI = lab.Bridge
	if _, err := lab.Up(ctx, o); err == nil || !strings.Contains(err.Error(), "is up with other options (2 nodes, dual, ptp)") {
		t.Errorf("a start with other options gives %v", err)
	}
	if _, err := lab.Open(ctx, o.Dir, "t-none"); !errors.Is(err, lab.ErrNotUp) {
		t.Errorf("a lab that is not there gives %v", err)
	}
	ns, err := c.PodNetNS(ctx, c.mustWeb(ctx, t, "n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		_, err := net.InterfaceByName("eth0")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
