package controller_test

import (
	"context"
	"testing"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/test/kubetest"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

// TestTwoClusters: groups of the same name in two clusters, with nodes of the same name, in one tailnet.
func TestTwoClusters(t *testing.T) {
	tn, err := testtailnet.Start(context.WithoutCancel(t.Context()), testtailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	one := newWorldIn(t, kubetest.Shared(t), tn)
	two := newWorldIn(t, kubetest.Start(t, serverOptions), tn)
	var gateways []*v1alpha1.EgressGateway
	for _, w := range []*world{one, two} {
		w.operator()
		w.node("node-a")
		w.create(group("payments"))
		gateways = append(gateways, w.join("payments", "node-a"))
	}
	keyOne, keyTwo := one.key("payments", ""), two.key("payments", "")
	descriptions := map[string]bool{}
	for _, k := range tn.Keys() {
		descriptions[k.Description] = true
	}
	if len(descriptions) != 2 {
		t.Errorf("descriptions of keys do not tell the clusters apart: %v", descriptions)
	}
	one.must(one.client.Delete(one.ctx(), group("payments")))
	one.until("group gone", func() string {
		if one.getGroup("payments") != nil {
			return "it is there"
		}
		return ""
	})
	if one.hasDevice(gateways[0].Status.DeviceID) || one.keyIsValid(keyOne.ID) {
		t.Error("the deleted group's device or key is left")
	}
	if !one.hasDevice(gateways[1].Status.DeviceID) || !one.keyIsValid(keyTwo.ID) {
		t.Error("the other cluster's device or key is gone")
	}
	two.condition("payments", v1alpha1.ConditionReady, controller.ReasonReady)
	two.must(two.client.Delete(two.ctx(), nodeNamed("node-a")))
	two.until("device gone", func() string { return two.deviceGone(gateways[1]) })
}
