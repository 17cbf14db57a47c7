package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

// foreigner returns a device that somebody else has in the tailnet.
func (w *world) foreigner(name string, tags ...string) string {
	w.Helper()
	return string(w.login(w.tailnet.CreateKey(testtailnet.KeyOptions{Tags: tags}).Secret, name).StableID)
}

// tagsOf returns a device's tags, as a text.
func (w *world) tagsOf(id string) string {
	for _, n := range w.tailnet.Nodes() {
		if string(n.StableID) == id {
			return strings.Join(n.Tags, " ")
		}
	}
	return "no such device"
}

// released waits until an EgressGateway is gone.
func (w *world) released(gw *v1alpha1.EgressGateway) {
	w.Helper()
	w.until("end of EgressGateway "+gw.Name, func() string {
		if w.get(&v1alpha1.EgressGateway{}, gw.Name) {
			return "it is there"
		}
		return ""
	})
}

// TestForeignDevice has EgressGateways name devices that are not the group's, as the agent of a node would that somebody
// took over: they are neither deleted nor tagged, and nothing waits for that.
func TestForeignDevice(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	w.operator(func(s *settings) {
		s.options = func(o *controller.Options) { o.Metrics = controller.NewMetrics(registry) }
	})
	w.create(group("payments"))
	w.create(group("peers"))
	w.key("payments", "")
	devices := map[string]string{ // by node
		"laptop":   w.foreigner("laptop"),
		"database": w.foreigner("database", "tag:db"),
		"router":   w.foreigner("router", "tag:egress-payments", "tag:db"),
		"peer":     w.foreigner("peer", "tag:egress-peers"),
	}
	before := map[string]string{}
	gateways := map[string]*v1alpha1.EgressGateway{}
	for node, id := range devices {
		w.node(node)
		before[node] = w.tagsOf(id)
		gateways[node] = w.announce("payments", node)
		w.report(gateways[node], func(s *v1alpha1.EgressGatewayStatus) {
			s.DeviceID, s.Tags = id, []string{"tag:other"} // so that the operator wants to give it the group's
		})
		if note := w.event(gateways[node].Name, controller.ReasonDeviceForeign); !strings.Contains(note, id) || !strings.Contains(note, "["+before[node]+"]") {
			t.Errorf("event: %s", note)
		}
	}
	unharmed := func(when string) {
		t.Helper()
		after := map[string]string{}
		for node, id := range devices {
			after[node] = w.tagsOf(id)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s (-before +after):\n%s", when, diff)
		}
	}
	unharmed("tags are wanted")
	w.must(w.client.Delete(w.ctx(), gateways["laptop"]))
	w.released(gateways["laptop"])
	w.must(w.client.Delete(w.ctx(), nodeNamed("database")))
	w.released(gateways["database"])
	w.must(w.client.Delete(w.ctx(), group("payments")))
	w.released(gateways["router"])
	w.released(gateways["peer"])
	w.until("group gone", func() string {
		if w.getGroup("payments") != nil {
			return "it is there"
		}
		return ""
	})
	unharmed("all is deleted")
	// Each was refused the group's tags, and then its deletion.
	if n := devicesCounted(t, registry, controller.ReasonDeviceForeign); n != 2*len(devices) {
		t.Errorf("%d refusals are counted, want %d", n, 2*len(devices))
	}
	if n := devicesCounted(t, registry, controller.ReasonDeviceDeleted) + devicesCounted(t, registry, controller.ReasonDeviceTagged); n != 0 {
		t.Errorf("%d devices were touched", n)
	}
}

func devicesCounted(t *testing.T, registry *prometheus.Registry, reason string) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "tailgate_operator_devices_total" && m.GetLabel()[0].GetValue() == reason {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// TestDeviceOfOtherTimes: a device is known by every tag that its group ever gave, so none is left behind.
func TestDeviceOfOtherTimes(t *testing.T) {
	w := newWorld(t)
	w.operator()
	g := group("payments")
	w.create(g)
	// In this tailnet no device can be given other tags.
	w.must(w.tailnet.Fail(testtailnet.Fault{Method: http.MethodPost, Path: "/api/v2/device/*/tags", Code: 403}))
	var gateways []*v1alpha1.EgressGateway
	key := ""
	for i, tags := range []string{"null", `["tag:egress-new"]`, `["tag:egress-peers"]`, "null"} {
		if i > 0 {
			w.change(g, `{"spec":{"tags":`+tags+`}}`)
		}
		key = w.key("payments", key).ID
		node := fmt.Sprintf("node-%d", i)
		w.node(node)
		gateways = append(gateways, w.join("payments", node))
	}
	if diff := cmp.Diff([]string{"tag:egress-new", "tag:egress-peers"}, w.key("payments", "").Former); diff != "" {
		t.Errorf("tags of before (-want +got):\n%s", diff)
	}
	// The first two nodes go, then the group.
	for i, gw := range gateways {
		if i == 2 {
			w.must(w.client.Delete(w.ctx(), g))
		}
		if i < 2 {
			w.must(w.client.Delete(w.ctx(), nodeNamed(gw.Spec.Node)))
		}
		w.released(gw)
		if left := w.deviceGone(gw); left != "" {
			t.Errorf("after tags were changed, %s", left)
		}
	}
	w.gone("payments")
}

// TestDeviceOfLostGroup: a group that went without its operator leaves an EgressGateway, whose device is known by
// the default tag.
func TestDeviceOfLostGroup(t *testing.T) {
	w := newWorld(t)
	op := w.operator()
	w.node("node-a")
	w.create(group("payments"))
	gw := w.join("payments", "node-a")
	op.stop()
	w.must(w.client.Delete(w.ctx(), group("payments")))
	w.change(group("payments"), `{"metadata":{"finalizers":null}}`)
	for _, o := range made() {
		o.SetNamespace(w.ns)
		o.SetName(v1alpha1.GroupObjectName("payments"))
		w.must(w.client.Delete(w.ctx(), o))
	}
	w.operator()
	w.released(gw)
	if left := w.deviceGone(gw); left != "" {
		t.Error(left)
	}
	for _, id := range w.validKeys() { // which nobody knows of any more
		w.tailnet.RevokeKey(id)
	}
}

// TestTagsFollowTheKey: a device gets tags once there is a key that gives them, since who deletes it knows these only.
func TestTagsFollowTheKey(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	g := group("payments")
	w.create(g)
	gw := w.join("payments", "node-a")
	first := w.key("payments", "")
	w.must(w.tailnet.Fail(testtailnet.Fault{Method: http.MethodPost, Path: "/api/v2/tailnet/*/keys", Code: 403}))
	w.change(g, `{"spec":{"tags":["tag:egress-new"]}}`)
	c := w.condition("payments", v1alpha1.ConditionAuthKeyReady, "PermissionDenied")
	if c.Status != metav1.ConditionFalse {
		t.Errorf("%+v", c)
	}
	if tags := w.tagsOf(gw.Status.DeviceID); tags != "tag:egress-payments" {
		t.Errorf("without a key the device has the tags %s", tags)
	}
	w.tailnet.ClearFaults()
	w.tryNow()
	w.key("payments", first.ID)
	w.until("device tagged", func() string { return cmp.Diff("tag:egress-new", w.tagsOf(gw.Status.DeviceID)) })
	w.event(gw.Name, controller.ReasonDeviceTagged)
}
