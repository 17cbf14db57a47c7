package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

func TestKeyIsRenewed(t *testing.T) {
	w := newWorld(t)
	w.operator()
	g := group("payments")
	w.create(g)
	first := w.key("payments", "")
	set := &appsv1.DaemonSet{}
	w.until("DaemonSet", func() string {
		if !w.get(set, v1alpha1.GroupObjectName("payments")) {
			return "there is none"
		}
		return ""
	})

	w.pass(11*time.Hour, g)
	w.settle(g)
	if now := w.key("payments", ""); now.ID != first.ID {
		t.Fatalf("the key was renewed after 11 of 24 hours")
	}
	w.pass(time.Hour, g)
	second := w.key("payments", first.ID)
	w.settle(g)
	if !w.keyIsValid(first.ID) || !w.keyIsValid(second.ID) {
		t.Fatalf("both keys should be good for a while, but only %v are", w.validKeys())
	}
	w.pass(9*time.Minute, g)
	w.settle(g)
	if !w.keyIsValid(first.ID) {
		t.Fatal("the old key was revoked while gateways may log in with it")
	}
	w.pass(time.Minute, g)
	w.until("old key revoked", func() string {
		return cmp.Diff([]string{second.ID}, w.validKeys())
	})
	w.until("old key forgotten", func() string {
		if retired := w.key("payments", "").Retired; len(retired) > 0 {
			return fmt.Sprint(retired)
		}
		return ""
	})
	generation := set.Generation
	w.get(set, v1alpha1.GroupObjectName("payments"))
	if set.Generation != generation {
		t.Error("a new key must not touch the DaemonSet")
	}
}

// TestKeyDeletedMeanwhile deletes the Secret while the operator has read the key and not come to writing it.
func TestKeyDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.operator()
	g := group("payments")
	w.create(g)
	first := w.key("payments", "")
	w.pass(12*time.Hour, g)
	second := w.key("payments", first.ID)
	w.settle(g)
	w.must(w.tailnet.Fail(testtailnet.Fault{Method: http.MethodDelete, Path: "/api/v2/tailnet/*/keys/*"}))
	w.pass(10*time.Minute, g)
	w.until("the old key is being revoked", func() string {
		if w.tailnet.Hanging() == 0 {
			return "it is not"
		}
		return ""
	})
	w.must(w.client.Delete(w.ctx(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: v1alpha1.GroupObjectName("payments")}}))
	w.key("payments", second.ID)
	w.tailnet.ClearFaults()
}

// settle waits until the operator has looked at what the group is now.
func (w *world) settle(g *v1alpha1.EgressGroup) {
	w.Helper()
	mark := len(w.log.String())
	w.change(g, fmt.Sprintf(`{"metadata":{"annotations":{"test/settle":%q}}}`, fmt.Sprint(mark)))
	w.until("a reconcile of "+g.Name, func() string {
		if !reconciled(w.log.String()[mark:], "EgressGroup="+g.Name+" ") {
			return "there was none"
		}
		return ""
	})
}

func TestKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	g := group("payments")
	w.create(g)
	first := w.key("payments", "")
	gw := w.join("payments", "node-a")
	w.pass(3 * time.Minute)
	w.tailnet.RevokeKey(first.ID)
	w.refuse(gw)
	second := w.key("payments", first.ID)
	w.until("refused key forgotten", func() string {
		return cmp.Diff([]string{second.ID}, w.validKeys()) + fmt.Sprint(w.key("payments", "").Retired)[2:]
	})
	w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonKeyValid)
	// The gateway got the new one not yet, and says so for an hour.
	for range 10 {
		w.pass(6*time.Minute, g)
		w.settle(g)
	}
	if now := w.key("payments", ""); now.ID != second.ID {
		t.Error("a refusal older than the key replaced it")
	}
	// The new one is refused, too.
	w.report(gw, func(s *v1alpha1.EgressGatewayStatus) { s.Conditions[1].Status = metav1.ConditionTrue })
	w.refuse(gw)
	third := w.key("payments", second.ID)
	// And again at once: no faster than a gateway can take up a new key.
	w.pass(time.Second)
	w.report(gw, func(s *v1alpha1.EgressGatewayStatus) { s.Conditions[1].Status = metav1.ConditionTrue })
	w.pass(time.Second)
	w.refuse(gw)
	w.settle(g)
	if now := w.key("payments", ""); now.ID != third.ID {
		t.Error("keys are minted faster than gateways can take them up")
	}
	w.pass(3*time.Minute, g)
	w.key("payments", third.ID)
}

// refuse reports that the tailnet refused the gateway's key now.
func (w *world) refuse(gw *v1alpha1.EgressGateway) {
	w.Helper()
	w.report(gw, func(s *v1alpha1.EgressGatewayStatus) {
		s.Conditions[1].Status = metav1.ConditionFalse
		s.Conditions[1].LastTransitionTime = metav1.NewTime(w.clock.Now())
	})
}

func TestTagsChange(t *testing.T) {
	w := newWorld(t)
	w.operator()
	w.node("node-a")
	g := group("payments")
	w.create(g)
	gw := w.join("payments", "node-a")
	first := w.key("payments", "")
	set := &appsv1.DaemonSet{}
	w.get(set, v1alpha1.GroupObjectName("payments"))
	generation := set.Generation

	w.change(g, `{"spec":{"tags":["tag:egress-peers","tag:egress-new"]}}`)
	second := w.key("payments", first.ID)
	want := []string{"tag:egress-new", "tag:egress-peers"}
	if diff := cmp.Diff(want, second.Tags); diff != "" {
		t.Errorf("tags of the key (-want +got):\n%s", diff)
	}
	w.until("device tagged", func() string { return cmp.Diff(want, w.tailnet.Nodes()[0].Tags) })
	w.event(gw.Name, controller.ReasonDeviceTagged)
	w.report(gw, func(s *v1alpha1.EgressGatewayStatus) { s.Tags = want })
	w.get(set, v1alpha1.GroupObjectName("payments"))
	if set.Generation != generation {
		t.Error("other tags must not touch the pod template")
	}

	w.change(g, `{"spec":{"tags":["tag:not-ours"]}}`)
	c := w.condition("payments", v1alpha1.ConditionAuthKeyReady, string(tailnet.TagNotOwned))
	if !strings.Contains(c.Message, "tag:not-ours") && !strings.Contains(c.Message, "tagOwners") {
		t.Errorf("message: %s", c.Message)
	}
	w.event("payments", string(tailnet.TagNotOwned))
	w.condition("payments", v1alpha1.ConditionReady, string(tailnet.TagNotOwned))
	if now := w.key("payments", ""); now.ID != second.ID {
		t.Error("the key that works was replaced by none")
	}
	w.change(g, `{"spec":{"tags":["tag:egress-new"]}}`)
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonReady)
}

func TestCredentials(t *testing.T) {
	w := newWorld(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: credentialsName}}
	w.must(w.client.Delete(w.ctx(), secret))
	w.operator()
	g := group("payments")
	w.create(g)
	c := w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonCredentialsMissing)
	if !strings.Contains(c.Message, credentialsName) || !strings.Contains(c.Message, tailnet.KeyClientSecret) {
		t.Errorf("message: %s", c.Message)
	}
	w.checkMade("payments", false)

	w.writeCredentialsData(map[string]string{tailnet.KeyTailnet: "-", tailnet.KeyClientID: w.oauth.ID})
	c = w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonCredentialsIncomplete)
	if !strings.Contains(c.Message, tailnet.KeyClientSecret) {
		t.Errorf("message: %s", c.Message)
	}
	w.writeCredentials(w.oauth)
	w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonKeyValid)
	first := w.key("payments", "")

	other := w.newOAuthClient("tag:egress-*")
	w.writeCredentials(other)
	second := w.key("payments", first.ID)
	w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonKeyValid)
	w.pass(11*time.Minute, g)
	w.until("key of the old client revoked", func() string { return cmp.Diff([]string{second.ID}, w.validKeys()) })

	w.tailnet.DeleteOAuthClient(other.ID)
	w.pass(13*time.Hour, g)
	c = w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonRenewalDelayed)
	if c.Status != metav1.ConditionTrue {
		t.Errorf("the key is good for hours, but: %+v", c)
	}
	w.pass(12*time.Hour, g)
	c = w.condition("payments", v1alpha1.ConditionAuthKeyReady, string(tailnet.CredentialsRefused))
	if c.Status != metav1.ConditionFalse {
		t.Errorf("the key expired, but: %+v", c)
	}
	w.writeCredentials(w.newOAuthClient("tag:egress-*"))
	w.key("payments", second.ID)
	w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonKeyValid)
}

// checkMade checks that a group has its objects, with a key or without.
func (w *world) checkMade(name string, key bool) {
	w.Helper()
	for _, o := range made() {
		if _, secret := o.(*corev1.Secret); secret && !key {
			continue
		}
		w.until(fmt.Sprintf("%T", o), func() string {
			if !w.get(o, v1alpha1.GroupObjectName(name)) {
				return "there is none"
			}
			return ""
		})
	}
}
