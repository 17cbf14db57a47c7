package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

// TestDeletionOrder holds gateway pods, as a slow node would: while one runs, its device and what it
// needs stay.
func TestDeletionOrder(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.node("node-b")
	w.create(group("payments"))
	a, b := w.join("payments", "node-a"), w.join("payments", "node-b")
	key := w.key("payments", "")
	w.cluster.setHold(true)

	// The last member leaves node-a.
	w.must(w.client.Delete(w.ctx(), a))
	w.until("label off", func() string { return w.label("node-a", "payments") })
	w.lookTwice(a)
	if !w.hasDevice(a.Status.DeviceID) {
		t.Fatal("the device was deleted while its gateway ran")
	}
	w.cluster.setHold(false)
	w.until("device gone", func() string { return w.deviceGone(a) })
	w.until("EgressGateway gone", func() string {
		if w.get(&v1alpha1.EgressGateway{}, a.Name) {
			return "it is there"
		}
		return ""
	})
	if !w.hasDevice(b.Status.DeviceID) || !w.podRuns("payments", "node-b") {
		t.Fatal("node-b has members")
	}

	// The group goes.
	w.cluster.setHold(true)
	w.must(w.client.Delete(w.ctx(), group("payments")))
	c := w.condition("payments", v1alpha1.ConditionReady, controller.ReasonDeleting)
	if !strings.Contains(c.Message, "wait") {
		t.Errorf("message: %s", c.Message)
	}
	w.until("DaemonSet is being deleted", func() string {
		set := &appsv1.DaemonSet{}
		if w.get(set, v1alpha1.GroupObjectName("payments")) && set.DeletionTimestamp == nil {
			return "it is not"
		}
		return ""
	})
	if !w.hasDevice(b.Status.DeviceID) || !w.keyIsValid(key.ID) {
		t.Error("the gateway's device or key went while it ran")
	}
	w.cluster.setHold(false)
	w.gone("payments")
}

// label returns what is wrong with a node that should not have the label of a group.
func (w *world) label(node, group string) string {
	n := &corev1.Node{}
	if w.get(n, node) {
		if _, ok := n.Labels[v1alpha1.NodeLabel(group)]; ok {
			return "it is there"
		}
	}
	return ""
}

func nodeNamed(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func (w *world) deviceGone(gw *v1alpha1.EgressGateway) string {
	if w.hasDevice(gw.Status.DeviceID) {
		return "device " + gw.Status.DeviceID + " is there"
	}
	return ""
}

// lookTwice waits until the operator has looked at a gateway twice.
func (w *world) lookTwice(gw *v1alpha1.EgressGateway) {
	w.Helper()
	mark := len(w.log.String())
	w.until("two looks at "+gw.Name, func() string {
		if n := strings.Count(w.log.String()[mark:], `msg="Reconcile done, requeueing after 1s" EgressGateway=`); n < 2 {
			return fmt.Sprint(n)
		}
		return ""
	})
}

func TestNodeIsDeleted(t *testing.T) {
	w := newWorld(t)
	op := w.operator()
	w.node("node-a")
	w.node("node-b")
	w.create(group("payments"))
	a, b := w.join("payments", "node-a"), w.join("payments", "node-b")
	w.must(w.client.Delete(w.ctx(), nodeNamed("node-a")))
	w.until("device of node-a gone", func() string { return w.deviceGone(a) })
	w.event(a.Name, controller.ReasonNodeGone)

	// While no operator runs.
	op.stop()
	w.must(w.client.Delete(w.ctx(), nodeNamed("node-b")))
	w.operator()
	w.until("device of node-b gone", func() string { return w.deviceGone(b) })
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonNoMembers)
}

// TestGatewayOfNoGroup: there is no such group, or was before.
func TestGatewayOfNoGroup(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	gw := w.announce("never-there", "node-a")
	w.until("EgressGateway gone", func() string {
		if w.get(&v1alpha1.EgressGateway{}, gw.Name) {
			return "it is there"
		}
		return ""
	})
	w.event(gw.Name, controller.ReasonGroupGone)
}

// TestInactive: an EgressGateway that only reports needs no gateway.
func TestInactive(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.create(group("payments"))
	gw := w.announce("payments", "node-a")
	w.until("pod runs", func() string {
		if !w.podRuns("payments", "node-a") {
			return "it does not"
		}
		return ""
	})
	w.change(gw, `{"spec":{"active":false}}`)
	w.until("pod ends", func() string {
		if w.podRuns("payments", "node-a") {
			return "it runs"
		}
		return w.label("node-a", "payments")
	})
	w.condition("payments", v1alpha1.ConditionGatewaysReady, controller.ReasonNoMembers)
}

// TestGatewaysEverywhere: with nodes: all a gateway outlives its node's last member, and its device does.
func TestGatewaysEverywhere(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.node("node-b")
	g := group("payments")
	g.Spec.Gateway = &v1alpha1.Gateway{Nodes: v1alpha1.GatewayNodesAll}
	w.create(g)
	gw := w.join("payments", "node-a")
	w.until("two gateways", func() string {
		if n := w.getGroup("payments").Status.Gateways; n.Desired != 2 || n.Ready != 2 {
			return fmt.Sprintf("%+v", n)
		}
		return ""
	})
	w.must(w.client.Delete(w.ctx(), gw))
	w.event(gw.Name, controller.ReasonGatewayStays)
	if !w.hasDevice(gw.Status.DeviceID) || !w.podRuns("payments", "node-a") {
		t.Error("the gateway runs, so its device stays")
	}
}

func TestCleanupTimeout(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	w.node("node-b")
	w.create(group("payments"))
	a, b := w.join("payments", "node-a"), w.join("payments", "node-b")
	key := w.key("payments", "")
	w.must(w.tailnet.Fail(testtailnet.Fault{Method: http.MethodDelete, Code: 503}))

	w.must(w.client.Delete(w.ctx(), a))
	c := w.condition("payments", v1alpha1.ConditionGatewaysReady, controller.ReasonCleanupDelayed)
	if !strings.Contains(c.Message, a.Status.DeviceID) {
		t.Errorf("message: %s", c.Message)
	}
	w.event("payments", controller.ReasonCleanupDelayed)
	w.pass(59*time.Minute, a)
	w.lookFails(a)
	if !w.get(&v1alpha1.EgressGateway{}, a.Name) {
		t.Fatal("it gave up too early")
	}
	w.pass(2*time.Minute, a)
	if note := w.event(a.Name, controller.ReasonDeviceAbandoned); !strings.Contains(note, a.Status.DeviceID) {
		t.Errorf("event: %s", note)
	}
	w.until("EgressGateway released", func() string {
		if w.get(&v1alpha1.EgressGateway{}, a.Name) {
			return "it is there"
		}
		return ""
	})

	w.must(w.client.Delete(w.ctx(), group("payments")))
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonDeleting)
	w.pass(61*time.Minute, group("payments"))
	if note := w.event("payments", controller.ReasonKeyAbandoned); !strings.Contains(note, key.ID) {
		t.Errorf("event: %s", note)
	}
	w.until("group gone", func() string {
		if w.get(b, b.Name) {
			w.pass(61 * time.Minute)
			return "there is still " + b.Name
		}
		if w.getGroup("payments") != nil {
			return "it is there"
		}
		return ""
	})
}

// lookFails waits until the operator failed to clean up after a gateway once more.
func (w *world) lookFails(gw *v1alpha1.EgressGateway) {
	w.Helper()
	mark := len(w.log.String())
	w.until("another failure", func() string {
		for line := range strings.Lines(w.log.String()[mark:]) {
			if strings.Contains(line, "EgressGateway="+gw.Name) && strings.Contains(line, "delete device") {
				return ""
			}
		}
		return "none"
	})
}

// TestDeadNode: the pod on a node that does not answer stays for ever; the device does not.
func TestDeadNode(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	g := group("payments")
	w.create(g)
	gw := w.join("payments", "node-a")
	w.cluster.setHold(true)
	w.must(w.client.Delete(w.ctx(), g))
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonDeleting)
	w.pass(61*time.Minute, g)
	w.event("payments", controller.ReasonPodsRemain)
	w.until("EgressGateway is being deleted", func() string {
		if w.get(gw, gw.Name) && gw.DeletionTimestamp == nil {
			return "it is not"
		}
		return ""
	})
	w.until("device gone", func() string {
		if w.get(gw, gw.Name) {
			w.pass(61 * time.Minute)
		}
		return w.deviceGone(gw)
	})
	w.event(gw.Name, controller.ReasonPodsRemain)
	w.until("group gone", func() string {
		if w.getGroup("payments") != nil {
			return "it is there"
		}
		return ""
	})
	w.cluster.setHold(false)
	w.until("nothing is left", func() string { return w.remains("payments") })
}
