package controller_test

import (
	"context"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"tailscale.com/control/tsp"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// cluster plays what a lone API server lacks: the DaemonSet controller, kubelets that make pods ready at once,
// the garbage collector as far as foreground deletion goes, and, on request, agents with gateways.
type cluster struct {
	w    *world
	quit context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	hold bool // pods that are to end do not
}

func startCluster(w *world) *cluster {
	ctx, quit := context.WithCancel(w.ctx())
	c := &cluster{w: w, quit: quit, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(2 * beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := c.turn(ctx); err != nil && ctx.Err() == nil && client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
				w.Errorf("cluster: %v", err)
				return
			}
		}
	}()
	return c
}

func (c *cluster) stop() {
	c.quit()
	<-c.done
}

// setHold makes pods that are to end stay, or lets them go.
func (c *cluster) setHold(hold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = hold
}

func (c *cluster) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hold
}

// turn does once what controllers do all the time.
func (c *cluster) turn(ctx context.Context) error {
	sets, nodes, pods := &appsv1.DaemonSetList{}, &corev1.NodeList{}, &corev1.PodList{}
	for _, list := range []client.ObjectList{sets, nodes, pods} {
		if err := c.w.client.List(ctx, list, client.InNamespace(c.w.ns)); err != nil {
			return err
		}
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		mine := slices.DeleteFunc(slices.Clone(pods.Items), func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, set) })
		if err := c.sync(ctx, set, nodes.Items, mine); err != nil {
			return err
		}
	}
	for i := range pods.Items { // whose DaemonSet is gone, as its deletion in the background leaves them
		owner := metav1.GetControllerOf(&pods.Items[i])
		if !slices.ContainsFunc(sets.Items, func(s appsv1.DaemonSet) bool { return s.UID == owner.UID }) {
			if err := c.end(ctx, &pods.Items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sync brings one DaemonSet's pods and status up to date.
func (c *cluster) sync(ctx context.Context, set *appsv1.DaemonSet, nodes []corev1.Node, pods []corev1.Pod) error {
	selector := labels.SelectorFromSet(set.Spec.Template.Spec.NodeSelector)
	var ready int32
	for i := range nodes {
		node := nodes[i].Name
		at := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node })
		wanted := selector.Matches(labels.Set(nodes[i].Labels)) && set.DeletionTimestamp == nil
		switch {
		case wanted && at < 0:
			if err := c.start(ctx, set, node); err != nil {
				return err
			}
			ready++
		case wanted:
			ready++
		case at >= 0:
			if err := c.end(ctx, &pods[at]); err != nil {
				return err
			}
		}
	}
	for i := range pods { // of nodes that are gone
		if !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return n.Name == pods[i].Spec.NodeName }) {
			if err := c.end(ctx, &pods[i]); err != nil {
				return err
			}
		}
	}
	if set.DeletionTimestamp != nil {
		if len(pods) > 0 {
			return nil
		}
		return c.w.client.Patch(ctx, set, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
	}
	want := appsv1.DaemonSetStatus{
		DesiredNumberScheduled: ready, CurrentNumberScheduled: ready, NumberReady: ready, ObservedGeneration: set.Generation,
	}
	if got := set.Status; got.NumberReady == want.NumberReady && got.ObservedGeneration == want.ObservedGeneration {
		return nil
	}
	set.Status = want
	return c.w.client.Status().Update(ctx, set)
}

func (c *cluster) start(ctx context.Context, set *appsv1.DaemonSet, node string) error {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, GenerateName: set.Name + "-", Labels: set.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: set.Name, UID: set.UID, Controller: &yes}},
		},
		Spec: *set.Spec.Template.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = node
	pod.Spec.PriorityClassName = "" // admission would look for it
	return c.w.client.Create(ctx, pod)
}

func (c *cluster) end(ctx context.Context, pod *corev1.Pod) error {
	if c.holds() {
		return nil
	}
	return client.IgnoreNotFound(c.w.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
}

// node makes a node.
func (w *world) node(name string) {
	w.Helper()
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}})
}

// join is an agent on a node whose group got its first member: it writes the EgressGateway, waits for the pod,
// and reports what the gateway in it, which logs in with the group's key, says.
func (w *world) join(group, node string) *v1alpha1.EgressGateway {
	w.Helper()
	gw := w.announce(group, node)
	w.until("gateway pod of "+group+" on "+node, func() string {
		if w.podRuns(group, node) {
			return ""
		}
		return "there is none"
	})
	device := w.login(w.key(group, "").Key, node)
	w.report(gw, func(s *v1alpha1.EgressGatewayStatus) {
		s.BackendState, s.DeviceID, s.Tags, s.Members = "Running", string(device.StableID), device.Tags, 2
		if g := w.getGroup(group); g != nil {
			s.ConfigHash = g.Status.ConfigHash
		}
		s.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Running", LastTransitionTime: metav1.Now()},
			{Type: v1alpha1.ConditionAuthKeyAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: metav1.Now()},
		}
	})
	return gw
}

// announce writes an EgressGateway as an agent does.
func (w *world) announce(group, node string) *v1alpha1.EgressGateway {
	w.Helper()
	gw := &v1alpha1.EgressGateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: v1alpha1.GatewayName(group, node), Finalizers: []string{v1alpha1.FinalizerDevice}},
		Spec:       v1alpha1.EgressGatewaySpec{Group: group, Node: node},
	}
	w.create(gw)
	return gw
}

// report changes the status of an EgressGateway as an agent does.
func (w *world) report(gw *v1alpha1.EgressGateway, change func(*v1alpha1.EgressGatewayStatus)) {
	w.Helper()
	w.must(w.client.Get(w.ctx(), client.ObjectKeyFromObject(gw), gw))
	before := gw.DeepCopy()
	change(&gw.Status)
	w.must(w.client.Status().Patch(w.ctx(), gw, client.MergeFrom(before)))
}

func (w *world) podRuns(group, node string) bool {
	w.Helper()
	pods := &corev1.PodList{}
	w.must(w.client.List(w.ctx(), pods, client.InNamespace(w.ns), client.MatchingLabels{v1alpha1.LabelGroup: v1alpha1.GroupKey(group)}))
	return slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == node })
}

// device is a node of the tailnet.
type device struct {
	StableID tailcfg.StableNodeID
	Tags     []string
}

// login is what a gateway does at its start: it registers a new device with the auth key.
func (w *world) login(authKey, hostname string) device {
	w.Helper()
	c, err := tsp.NewClient(tsp.ClientOpts{ServerURL: w.tailnet.ControlURL(), MachineKey: key.NewMachine()})
	w.must(err)
	defer c.Close()
	nodeKey := key.NewNode()
	ctx, cancel := context.WithTimeout(w.ctx(), patience)
	defer cancel()
	_, err = c.Register(ctx, tsp.RegisterOpts{NodeKey: nodeKey, AuthKey: authKey, Hostinfo: &tailcfg.Hostinfo{Hostname: hostname}})
	w.must(err)
	for _, n := range w.tailnet.Nodes() {
		if n.NodeKey == nodeKey.Public() {
			return device{n.StableID, n.Tags}
		}
	}
	w.Fatal("the tailnet does not know the device that logged in")
	return device{}
}

// hasDevice reports whether the tailnet has the device.
func (w *world) hasDevice(id string) bool {
	for _, n := range w.tailnet.Nodes() {
		if string(n.StableID) == id {
			return true
		}
	}
	return false
}
