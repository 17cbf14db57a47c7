//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
	"github.com/rajsinghtech/tailgate/test/script"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	kubetest.Main(m, kubetest.Options{CRDs: true})
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// world is one node: its API server is real, as are the pods' network namespaces; the test plays kubelet,
// container runtime and gateways.
type world struct {
	*testing.T
	env    *kubetest.Env
	client client.WithWatch
	ns     string // tailgate's
	node   string
	dir    string // files of the node
	log    *logBuffer
	// wrap is around the agents' requests; nil: nothing is.
	wrap func(http.RoundTripper) http.RoundTripper
}

func newWorld(t *testing.T) *world {
	t.Helper()
	env := kubetest.Shared(t)
	w := &world{T: t, env: env, client: env.Client, ns: env.Namespace(), dir: t.TempDir(), log: &logBuffer{}}
	w.node = "node-" + w.ns
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("log:\n" + w.log.tail())
		}
	})
	w.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: w.node},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.7.0/24", PodCIDRs: []string{"10.244.7.0/24", "fd00:10:244:7::/64"}},
	})
	for _, dir := range []string{"cni/results", "net.d", "bin", "gateways"} {
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write("net.d/10-pods.conflist", conflist)
	w.write("plugin", "#!/bin/true\n")
	w.grant()
	return w
}

const conflist = `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp"}]}`

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o755); err != nil {
		w.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

// ctx does not end before the cleanups.
func (w *world) ctx() context.Context { return context.WithoutCancel(w.env.Context) }

func (w *world) create(o client.Object) {
	w.Helper()
	if err := w.client.Create(w.ctx(), o); err != nil {
		w.Fatal(err)
	}
}

func (w *world) account() string { return "system:serviceaccount:" + w.ns + ":tailgate-agent" }

// grant gives the account the agent's permissions and no others.
func (w *world) grant() {
	w.Helper()
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: w.account()}}
	name := metav1.ObjectMeta{Name: w.ns + "-agent", Namespace: w.ns}
	everywhere := metav1.ObjectMeta{Name: name.Name}
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: everywhere, Rules: permission.Rules(ClusterPermissions())},
		&rbacv1.ClusterRoleBinding{ObjectMeta: everywhere, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name}},
		&rbacv1.Role{ObjectMeta: name, Rules: permission.Rules(NamespacePermissions())},
		&rbacv1.RoleBinding{ObjectMeta: name, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name}},
	} {
		w.create(o)
	}
}

// agent is a running agent.
type agent struct {
	*Daemon
	w      *world
	cancel context.CancelFunc
	done   chan error
}

// agent starts an agent; it ends with the test at the latest.
func (w *world) agent(change ...func(*Options)) *agent {
	w.Helper()
	cfg := rest.CopyConfig(w.env.User(w.account()))
	if w.wrap != nil {
		cfg.Wrap(w.wrap)
	}
	o := Options{
		Config: cfg, Node: w.node, Namespace: w.ns, DaemonSet: DaemonSetName,
		Resolvers:      []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Install:        install.Options{BinDir: filepath.Join(w.dir, "bin"), ConfDir: filepath.Join(w.dir, "net.d"), Plugin: filepath.Join(w.dir, "plugin")},
		Attachments:    attachments.Options{Dir: filepath.Join(w.dir, "cni/results")},
		Socket:         w.socket(),
		GatewayFolders: filepath.Join(w.dir, "gateways"),
		Logger:         slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	ctx, cancel := context.WithCancel(w.ctx())
	d, err := New(ctx, o)
	if err != nil {
		cancel()
		w.Fatal(err)
	}
	a := &agent{Daemon: d, w: w, cancel: cancel, done: make(chan error, 1)}
	go func() { a.done <- d.Run(ctx) }()
	w.Cleanup(a.stop)
	return a
}

func (w *world) socket() string { return filepath.Join(w.dir, "agent", "cni.sock") }

// ready waits until the agent knows its node.
func (a *agent) ready() *agent {
	a.w.Helper()
	select {
	case <-a.synced:
	case err := <-a.done:
		a.w.Fatalf("the agent ended: %v", err)
	case <-time.After(patience):
		a.w.Fatal("the agent does not get to know its node")
	}
	return a
}

func (a *agent) stop() {
	a.cancel()
	select {
	case err := <-a.done:
		if err != nil {
			a.w.Errorf("agent: %v", err)
		}
		a.done <- nil
	case <-time.After(patience):
		a.w.Error("the agent does not end")
	}
}

// sandbox is a pod and its network namespace.
type sandbox struct {
	*corev1.Pod
	ns    *netns.Handle
	where string
}

// pod makes a pod of the node, whose sandbox the runtime has not set up yet.
func (w *world) pod(namespace, name string, labels map[string]string) *sandbox {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: w.node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	w.create(p)
	named := "daemon-" + string(p.UID)[:13]
	return &sandbox{Pod: p, ns: nstest.NewNamed(w, named), where: "/run/netns/" + named}
}

// member makes a pod that the group [group] makes selects.
func (w *world) member(name string) *sandbox {
	return w.pod(w.ns, name, map[string]string{"egress": w.ns})
}

// add does what the runtime's CNI ADD does, and returns what the agent answered.
func (w *world) add(s *sandbox) (cnirpc.Reply, error) {
	w.Helper()
	return w.call(cnirpc.Add, s, 10*time.Second)
}

func (w *world) call(verb cnirpc.Verb, s *sandbox, limit time.Duration) (cnirpc.Reply, error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), limit)
	defer cancel()
	return cnirpc.Call(ctx, w.socket(), cnirpc.Request{
		Verb: verb, Network: "pods", ContainerID: "c-" + string(s.UID), IfName: "eth0", Netns: s.where,
		Pod: cnirpc.Pod{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)},
	})
}

// forget deletes a pod from the API at once, whatever its sandbox does.
func (w *world) forget(s *sandbox) {
	w.Helper()
	if err := w.client.Delete(w.ctx(), s.Pod, client.GracePeriodSeconds(0)); err != nil {
		w.Fatal(err)
	}
}

// cached writes what libcni leaves of an ADD.
func (w *world) cached(s *sandbox) {
	w.Helper()
	text, err := json.Marshal(map[string]any{
		"kind": "cniCacheV1", "containerId": "c-" + string(s.UID), "ifName": "eth0", "netns": s.where,
		"cniArgs": [][2]string{{"K8S_POD_NAMESPACE", s.Namespace}, {"K8S_POD_NAME", s.Name}, {"K8S_POD_UID", string(s.UID)}},
		"result":  map[string]any{"cniVersion": "1.0.0"},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.write("cni/results/pods-c-"+string(s.UID)+"-eth0", string(text))
}

// group makes a group that selects the members of this world.
func (w *world) group(name string, change ...func(*v1alpha1.EgressGroupSpec)) *v1alpha1.EgressGroup {
	w.Helper()
	g := &v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{Name: name + "-" + w.ns}}
	g.Spec.Selector.PodSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"egress": v1alpha1.LabelValue(w.ns)}}
	for _, c := range change {
		c(&g.Spec)
	}
	w.create(g)
	w.Cleanup(func() { _ = w.client.Delete(w.ctx(), g) })
	return g
}

// gateway runs a group's gateway: a pod with a namespace, and a socket that says what is published.
func (w *world) gateway(g *v1alpha1.EgressGroup, says *snapshot.Snapshot) *fakeGateway {
	w.Helper()
	f := &fakeGateway{w: w, sandbox: w.pod(w.ns, "gateway-"+v1alpha1.GroupKey(g.Name), map[string]string{
		v1alpha1.LabelGroup: v1alpha1.GroupKey(g.Name), v1alpha1.LabelName: v1alpha1.GatewayPodName, labelPartOf: partOf,
	})}
	f.Annotations = map[string]string{v1alpha1.AnnotationGroup: g.Name}
	if err := w.client.Update(w.ctx(), f.Pod); err != nil {
		w.Fatal(err)
	}
	f.folder = filepath.Join(w.dir, "gateways", v1alpha1.GroupObjectName(g.Name))
	if err := os.MkdirAll(f.folder, 0o700); err != nil {
		w.Fatal(err)
	}
	w.cached(f.sandbox)
	if says != nil {
		f.serve()
		f.says(*says)
	}
	return f
}

type fakeGateway struct {
	*sandbox
	w      *world
	folder string
	pub    snapshot.Publisher
}

func (f *fakeGateway) serve() {
	f.w.Helper()
	ln, err := net.Listen("unix", filepath.Join(f.folder, "snapshot.sock"))
	if err != nil {
		f.w.Fatal(err)
	}
	srv := &http.Server{Handler: f.pub.Handler()}
	go func() { _ = srv.Serve(ln) }()
	f.w.Cleanup(func() { _ = srv.Close() })
}

func (f *fakeGateway) says(s snapshot.Snapshot) {
	f.w.Helper()
	if err := f.pub.Set(s); err != nil {
		f.w.Fatal(err)
	}
}

// running is what a gateway says that is on its tailnet.
func running(routes ...string) *snapshot.Snapshot {
	s := &snapshot.Snapshot{BackendState: "Running", Ready: true, DeviceID: "nDEV", Addrs: []netip.Addr{netip.MustParseAddr("100.64.0.9")}, Tags: []string{"tag:b", "tag:a"}}
	for _, r := range routes {
		s.Routes = append(s.Routes, netip.MustParsePrefix(r))
	}
	return s
}

// until waits until missing returns "", and asks again at each event of a kind: EgressGateways, or events on objects.
func (w *world) until(what string, list client.ObjectList, missing func() string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), patience)
	defer cancel()
	watch, err := w.client.Watch(ctx, list)
	if err != nil {
		w.Fatal(err)
	}
	defer watch.Stop()
	for {
		last := missing()
		if last == "" {
			return
		}
		select {
		case <-watch.ResultChan():
		case <-ctx.Done():
			w.Fatalf("%s: %s", what, last)
		}
	}
}

// report waits until the group's EgressGateway is as wanted, and returns it.
func (w *world) report(g *v1alpha1.EgressGroup, what string, good func(*v1alpha1.EgressGateway) bool) *v1alpha1.EgressGateway {
	w.Helper()
	var last *v1alpha1.EgressGateway
	w.until(what, &v1alpha1.EgressGatewayList{}, func() string {
		last = w.reportNow(g)
		if last != nil && good(last) {
			return ""
		}
		text, _ := json.Marshal(last)
		return string(text)
	})
	return last
}

// reportNow returns the group's EgressGateway; nil: there is none.
func (w *world) reportNow(g *v1alpha1.EgressGroup) *v1alpha1.EgressGateway {
	w.Helper()
	have := &v1alpha1.EgressGateway{}
	err := w.client.Get(w.ctx(), client.ObjectKey{Namespace: w.ns, Name: v1alpha1.GatewayName(g.Name, w.node)}, have)
	if client.IgnoreNotFound(err) != nil {
		w.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return have
}

// noReport waits until the group has no EgressGateway. The test plays the operator, which lets it go.
func (w *world) noReport(g *v1alpha1.EgressGroup) {
	w.Helper()
	w.until("no report of "+g.Name, &v1alpha1.EgressGatewayList{}, func() string {
		have := w.reportNow(g)
		if have == nil {
			return ""
		}
		if !have.DeletionTimestamp.IsZero() && len(have.Finalizers) > 0 {
			bare := have.DeepCopy()
			bare.Finalizers = nil
			if err := w.client.Patch(w.ctx(), bare, client.MergeFrom(have)); client.IgnoreNotFound(err) != nil {
				w.Fatal(err)
			}
		}
		return "it is there"
	})
}

// event waits for an event on a pod, and returns its text.
func (w *world) event(s *sandbox, reason string) (note string) {
	w.Helper()
	w.until(reason+" of "+s.Name, &eventsv1.EventList{}, func() string {
		list := &eventsv1.EventList{}
		if err := w.client.List(w.ctx(), list, client.InNamespace(s.Namespace)); err != nil {
			w.Fatal(err)
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.UID != s.UID {
				continue
			}
			if e.Reason == reason {
				note = e.Note
				return ""
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return fmt.Sprintf("there are %q", seen)
	})
	return note
}

// repeated waits for an event on a pod that was told more than once.
func (w *world) repeated(s *sandbox) {
	w.Helper()
	w.until("a repeated event on "+s.Name, &eventsv1.EventList{}, func() string {
		list := &eventsv1.EventList{}
		if err := w.client.List(w.ctx(), list, client.InNamespace(s.Namespace)); err != nil {
			w.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Regarding.UID == s.UID && e.Series != nil {
				return ""
			}
		}
		return "there is none"
	})
}

// metadataOf is a namespace as the agent watches it.
func metadataOf(namespace string) *metav1.PartialObjectMetadata {
	ns := namespaceMetadata()
	ns.Name = namespace
	return ns
}

// changed waits until cond holds, and looks again at each change in the namespace.
func (w *world) changed(what string, h *netns.Handle, cond func(state string) bool) {
	w.Helper()
	news := watchNS(w.T, h)
	deadline := time.After(patience)
	for {
		state := inside(w, h)
		if cond(state) {
			return
		}
		select {
		case <-news:
		case <-deadline:
			w.Fatalf("%s: not reached; there is\n%s", what, state)
		}
	}
}

// inside returns what tailgate may have made in a pod's namespace; "": nothing.
func inside(tb testing.TB, h *netns.Handle) string {
	tb.Helper()
	return run(tb, h, `ip -o link show ts0 2>/dev/null | cut -d: -f1,2 || true
ip route show table 7717 2>/dev/null || true
ip -6 route show table 7717 2>/dev/null || true
ip rule | grep ^77 || true
ip -6 rule | grep ^77 || true
nft list tables`)
}

// run runs a shell script in a namespace and returns what it prints.
func run(tb testing.TB, h *netns.Handle, line string) string {
	tb.Helper()
	return script.Run(tb, h, line)
}

// watchNS tells of each change in a namespace until the test ends.
func watchNS(tb testing.TB, h *netns.Handle) <-chan struct{} {
	tb.Helper()
	k, err := kernel.Open(h, kernel.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	defer k.Close()
	news, err := k.Subscribe(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return news
}

// logBuffer keeps what agents log.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.text.String()
	return s[max(0, len(s)-8000):]
}

// daemonSet is the agents' own.
func daemonSet(namespace string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "agent"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: DaemonSetName},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "none"}}},
			},
		},
	}
}
