//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

const (
	labName = "bench"
	group   = "bench"
	// Pods with podLabel, in namespaces with namespaceLabel, are members.
	podLabel       = "tailgate.dev/egress"
	namespaceLabel = "bench.tailgate.dev/members"
	// Namespaces of pods: of those that wait for the bench to make their sandbox, of single ones, and of many.
	namespaceAdd, namespaceLive, namespaceMany = "bench-add", "bench-live", "bench-many"
	// agentPort and debugPort are the chart's.
	agentPort, debugPort = 9003, 9004
)

// How often is asked of what takes long, and of what does not.
const (
	seldom = 500 * time.Millisecond
	rarely = 200 * time.Millisecond
	often  = 50 * time.Millisecond
)

// memberLabel makes a pod of a labelled namespace a member.
var memberLabel = map[string]string{podLabel: "true"}

// bench is the scene, and what has been measured.
type bench struct {
	s       settings
	out     io.Writer
	began   time.Time
	machine proc.Machine
	dir     string

	stage      *stage.Stage
	node       *lab.Node
	nodePID    int // its process 1
	nodeNS     *netns.Handle
	peer       *rig.Node
	gateway    *world.Host // the gateway pod's namespace
	gatewayPod *corev1.Pod
	handles    []*netns.Handle
	// ends stop what must not outlive the cluster: processes in its control groups.
	ends []func() error

	lines  []sheet.Line
	failed []string
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "%6.1f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// setUp makes the cluster with tailgate on it, one group, and a first member, for which the node's gateway starts.
func (b *bench) setUp(ctx context.Context) (err error) {
	if b.machine, err = proc.ThisMachine(); err != nil {
		return err
	}
	if b.machine.Busy, err = proc.MeasureBusy(ctx, 2*time.Second); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "tailgate agent bench. Machine: %v.\n", b.machine)
	if b.dir, err = os.MkdirTemp("", "tailgate-bench-agent-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	b.stage, err = stage.Up(ctx, stage.Options{
		Name: labName, Nodes: 1, Roles: []rig.Role{rig.Plain}, Tags: []string{v1alpha1.DefaultTag(group)},
		Values: []string{"replicas=1"}, Out: b.out,
	})
	if err != nil {
		return err
	}
	b.node, b.peer = b.stage.Lab.Nodes()[0], b.stage.Rig.Nodes[rig.Plain]
	if err := b.quiet(ctx); err != nil {
		return err
	}
	if b.nodePID, err = b.node.PID(ctx); err != nil {
		return err
	}
	if b.nodeNS, err = b.node.NetNS(ctx); err != nil {
		return err
	}
	b.handles = append(b.handles, b.nodeNS)
	if err := b.makeObjects(ctx); err != nil {
		return err
	}
	return b.firstMember(ctx)
}

// quiet makes the kubelet look at each pod once a minute, as it does by default, and not once a second, as tests want
// it: with 250 pods it would keep the machine busy.
func (b *bench) quiet(ctx context.Context) error {
	const eager, normal = "syncFrequency: 1s", "syncFrequency: 1m"
	file := b.node.Path("etc/kubernetes/kubelet.yaml")
	conf, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the kubelet's configuration: %w", err)
	}
	if !bytes.Contains(conf, []byte(eager)) {
		return fmt.Errorf("%s does not say %q", file, eager)
	}
	if err := os.WriteFile(file, bytes.Replace(conf, []byte(eager), []byte(normal), 1), 0o644); err != nil {
		return fmt.Errorf("write the kubelet's configuration: %w", err)
	}
	return b.node.Restart(ctx, lab.Kubelet)
}

// makeObjects makes the namespaces and the group.
func (b *bench) makeObjects(ctx context.Context) error {
	for _, name := range []string{namespaceAdd, namespaceLive, namespaceMany} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name != namespaceMany {
			ns.Labels = map[string]string{namespaceLabel: "true"}
		}
		if err := b.stage.Client.Create(ctx, ns); err != nil {
			return fmt.Errorf("make namespace: %w", err)
		}
		// Pods are refused before there is one.
		err := await(ctx, time.Minute, often, "service account of "+name, func() (bool, error) {
			err := b.stage.Client.Get(ctx, client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
			return err == nil, client.IgnoreNotFound(err)
		})
		if err != nil {
			return err
		}
	}
	g := &v1alpha1.EgressGroup{
		ObjectMeta: metav1.ObjectMeta{Name: group},
		Spec: v1alpha1.EgressGroupSpec{Selector: v1alpha1.Selector{
			NamespaceSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{namespaceLabel: "true"}},
			PodSelector:       &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{podLabel: "true"}},
		}},
	}
	if err := b.stage.Client.Create(ctx, g); err != nil {
		return fmt.Errorf("make group: %w", err)
	}
	return nil
}

// firstMember starts a member that stays, and with it the gateway.
func (b *bench) firstMember(ctx context.Context) error {
	first := newPod(namespaceLive, "first", memberLabel)
	if err := b.startPods(ctx, first); err != nil {
		return err
	}
	h, err := b.host(ctx, first)
	if err != nil {
		return err
	}
	if err := b.reach(ctx, h); err != nil {
		return err
	}
	b.say("the gateway is up, and the first member reaches the peer")
	pods := &corev1.PodList{}
	err = b.stage.Client.List(ctx, pods, client.InNamespace(stage.Namespace), client.MatchingLabels{
		v1alpha1.LabelName: v1alpha1.GatewayPodName, v1alpha1.LabelGroup: v1alpha1.GroupKey(group),
	})
	if err == nil && len(pods.Items) != 1 {
		err = fmt.Errorf("there are %d", len(pods.Items))
	}
	if err != nil {
		return fmt.Errorf("find the gateway: %w", err)
	}
	b.gatewayPod = &pods.Items[0]
	b.gateway, err = b.host(ctx, b.gatewayPod)
	return err
}

// newPod describes a pod of one small program, with nothing that costs its start anything else.
func newPod(namespace, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: "n1", TerminationGracePeriodSeconds: new(int64), AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
			Containers: []corev1.Container{{Name: "pause", Image: lab.PauseImage, ImagePullPolicy: corev1.PullNever}},
		},
	}
}

// newPods describes several.
func newPods(n int, namespace, prefix string, labels map[string]string) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		pods[i] = newPod(namespace, fmt.Sprintf("%s-%d", prefix, i), labels)
	}
	return pods
}

// startPods creates pods of one namespace and waits until all run.
func (b *bench) startPods(ctx context.Context, pods ...*corev1.Pod) error {
	for _, p := range pods {
		if err := b.stage.Client.Create(ctx, p); err != nil {
			return fmt.Errorf("start pod %s: %w", p.Name, err)
		}
	}
	list := &corev1.PodList{}
	what := fmt.Sprintf("%d pods of %s to run", len(pods), pods[0].Namespace)
	return await(ctx, 5*time.Minute, seldom, what, func() (bool, error) {
		if err := b.stage.Client.List(ctx, list, client.InNamespace(pods[0].Namespace)); err != nil {
			return false, err
		}
		running := map[string]bool{}
		for _, p := range list.Items {
			running[p.Name] = p.Status.Phase == corev1.PodRunning
		}
		for _, p := range pods {
			if !running[p.Name] {
				return false, nil
			}
		}
		return true, nil
	})
}

// host returns a pod's network namespace as a host, for sockets and programs.
func (b *bench) host(ctx context.Context, p *corev1.Pod) (*world.Host, error) {
	if err := b.stage.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
		return nil, fmt.Errorf("find pod %s: %w", p.Name, err)
	}
	ns, err := b.stage.Lab.PodNetNS(ctx, p)
	if err != nil {
		return nil, err
	}
	b.handles = append(b.handles, ns)
	return b.stage.Rig.World.Adopt(p.Name, ns), nil
}

// reach waits until the peer answers a pod.
func (b *bench) reach(ctx context.Context, h *world.Host) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := traffic.StartProbes(ctx, h, b.peer.Tail4, 20*time.Millisecond)
	if err != nil {
		return err
	}
	defer p.Stop()
	return p.Wait(ctx)
}

// agentPID finds the agent's process.
func (b *bench) agentPID() (int, error) { return findProcess("tailgate-agent", b.nodeNS) }

// errNoProcess says that there is no such process.
var errNoProcess = errors.New("no process")

// findProcess finds the process of a program in a network namespace.
func findProcess(program string, ns *netns.Handle) (int, error) {
	want, err := ns.ID()
	if err != nil {
		return 0, err
	}
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, fmt.Errorf("look for %s: %w", program, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		argv0, _, _ := strings.Cut(string(b), "\x00")
		if filepath.Base(argv0) != program {
			continue
		}
		dir := filepath.Dir(name)
		fi, err := os.Stat(filepath.Join(dir, "ns/net"))
		if err != nil {
			continue
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Ino == want.Ino {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("%w of %s is in the namespace", errNoProcess, program)
}

// gatewaySocket is the gateway's LocalAPI, on the node.
func (b *bench) gatewaySocket() string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", b.nodePID), ident.GatewayFolders, v1alpha1.GroupObjectName(group), "tailscaled.sock")
}

// agentURL is a page of the agent's for everybody, debugURL one for who is on the node.
func (b *bench) agentURL(path string) string {
	return fmt.Sprintf("http://%s/%s", netip.AddrPortFrom(b.node.Plan.Addrs[0], agentPort), path)
}

func (b *bench) debugURL(path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d/debug/%s", debugPort, path)
}

// onNode is a client whose connections begin on the node, one for each request: the agent on the other end is restarted.
func (b *bench) onNode() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = b.nodeNS.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
}

// await looks every so often until cond is true. Whoever is asked uses the CPUs that are measured, so that it should be seldom.
func await(ctx context.Context, limit, every time.Duration, what string, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := cond()
		if ok && err == nil {
			return nil
		}
		if perr := rig.Pause(ctx, every); perr != nil {
			return fmt.Errorf("wait for %s: %w", what, errors.Join(perr, err))
		}
	}
}

// endAll stops what was put into the cluster's control groups.
func (b *bench) endAll() error {
	var errs []error
	for _, end := range b.ends {
		errs = append(errs, end())
	}
	b.ends = nil
	return errors.Join(errs...)
}

// close ends everything.
func (b *bench) close(ctx context.Context) error {
	errs := []error{b.endAll()}
	if b.stage != nil {
		errs = append(errs, b.stage.Down(context.WithoutCancel(ctx)))
	}
	for _, h := range b.handles {
		errs = append(errs, h.Close())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}
