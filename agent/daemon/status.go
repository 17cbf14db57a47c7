package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Reasons of the conditions of an EgressGateway.
const (
	// ReasonReady: members' traffic reaches the tailnet.
	ReasonReady = "Ready"
	// ReasonGatewayAbsent: no gateway pod runs on the node yet.
	ReasonGatewayAbsent = "GatewayAbsent"
	// ReasonGatewaySilent: the gateway pod is there and does not answer.
	ReasonGatewaySilent = "GatewaySilent"
	// ReasonNotReady: the gateway says that it is not.
	ReasonNotReady = "NotReady"
	// ReasonKeyAccepted and ReasonKeyRefused: what the tailnet said to the auth key at the last login.
	ReasonKeyAccepted = "KeyAccepted"
	ReasonKeyRefused  = "KeyRefused"
	// ReasonApplied and ReasonConfigRejected: what became of the gateway's newest configuration.
	ReasonApplied        = "Applied"
	ReasonConfigRejected = "ConfigRejected"
	// ReasonSteered and ReasonClusterCIDR: whether all of the group's routes are steered.
	ReasonSteered     = "Steered"
	ReasonClusterCIDR = "ClusterCIDR"
	// ReasonNoConflict and ReasonOlderGroup: whether an older group has pods that the group selects.
	ReasonNoConflict = "NoConflict"
	ReasonOlderGroup = "OlderGroup"
)

// facts are what is known of a group on this node.
type facts struct {
	name string
	// group is nil when it is not there, or about to go.
	group   *v1alpha1.EgressGroup
	members int
	// gateway: its pod has a network namespace. snapshot is nil while it does not answer; unheard: it was not asked yet,
	// as when the agent has just started.
	gateway   bool
	unheard   bool
	silence   string // why it does not answer
	snapshot  *snapshot.Snapshot
	engine    stitch.GroupReport
	conflicts []membership.Conflict
}

// facts gathers what is known of a group.
func (d *Daemon) facts(name string) facts {
	f := facts{name: name}
	for _, g := range d.engine.Snapshot().Groups {
		if g.Name == name {
			f.engine = g
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.groups[name]; g != nil && g.DeletionTimestamp.IsZero() {
		f.group = g
	}
	f.members, f.conflicts = len(d.model.MembersOf(name)), d.model.Conflicts(name)
	if g := d.gateways[name]; g != nil {
		f.gateway, f.snapshot, f.unheard = true, g.snapshot, g.snapshot == nil && g.err == nil
		if g.err != nil {
			f.silence = g.err.Error()
		}
	}
	return f
}

// status is pure: what f says, over what was said before.
func status(f facts, before v1alpha1.EgressGatewayStatus, generation int64, now time.Time) v1alpha1.EgressGatewayStatus {
	s := *before.DeepCopy()
	s.Members = int32(f.members)
	if !f.unheard {
		s.BackendState = ""
	}
	if sn := f.snapshot; sn != nil {
		s.BackendState, s.ConfigHash, s.Version = sn.BackendState, sn.Config.Hash, sn.Version
		if sn.DeviceID != "" {
			s.DeviceID = sn.DeviceID
			s.Tags = slices.Compact(slices.Sorted(slices.Values(sn.Tags)))
		}
		s.Addresses = nil
		for _, a := range sn.Addrs {
			s.Addresses = append(s.Addresses, a.String())
		}
		s.ExitNode = nil
		if e := sn.ExitNode; e.Wanted != "" {
			s.ExitNode = &v1alpha1.GatewayExitNode{Wanted: e.Wanted, ID: e.ID, Name: e.Name, Online: e.Online, Message: e.Message}
		}
	}
	set := func(c metav1.Condition) {
		c.ObservedGeneration, c.LastTransitionTime = generation, metav1.NewTime(now.Truncate(time.Second))
		c.Message = shortened(c.Message)
		meta.SetStatusCondition(&s.Conditions, c)
	}
	if !f.unheard || meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady) == nil {
		set(f.ready())
	}
	if sn := f.snapshot; sn != nil {
		set(condition(v1alpha1.ConditionAuthKeyAccepted, !sn.AuthKeyRefused, ReasonKeyAccepted, "the gateway is logged in, or has not been refused",
			ReasonKeyRefused, "the tailnet refused the auth key; the operator mints another"))
		set(condition(v1alpha1.ConditionConfigApplied, sn.Config.Error == "", ReasonApplied, "the gateway has its newest configuration",
			ReasonConfigRejected, "the gateway keeps the configuration that it had: "+sn.Config.Error))
	}
	set(f.steered())
	set(f.conflicting())
	return s
}

// condition returns a condition that holds or not.
func condition(kind string, holds bool, reason, message, otherwise, sentence string) metav1.Condition {
	if holds {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: otherwise, Message: sentence}
}

func (f facts) ready() metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, false, "", "", reason, message)
	}
	switch sn := f.snapshot; {
	case !f.gateway:
		return no(ReasonGatewayAbsent, "no gateway pod runs on this node yet; members' traffic to the tailnet is refused meanwhile")
	case sn == nil:
		return no(ReasonGatewaySilent, "the gateway does not answer: "+cmp.Or(f.silence, "it is being asked"))
	case f.engine.Gateway != nil && !f.engine.Gateway.Open:
		return no(ReasonNotReady, "members cannot be joined: "+f.engine.Gateway.Message)
	case !sn.Ready && len(sn.Problems) > 0:
		return no(ReasonNotReady, strings.Join(sn.Problems, "; "))
	case !sn.Ready:
		return no(ReasonNotReady, "the gateway's backend is in state "+sn.BackendState)
	}
	return condition(v1alpha1.ConditionReady, true, ReasonReady, "members' traffic reaches the tailnet", "", "")
}

// steered tells of routes that are left out, or steered but for a part, because the cluster has these addresses.
func (f facts) steered() metav1.Condition {
	var inside, covering []string
	for _, o := range f.engine.Overlaps {
		if o.Steered {
			covering = append(covering, fmt.Sprintf("%v but for %v", o.Route, o.CIDR))
		} else {
			inside = append(inside, fmt.Sprintf("%v lies in %v", o.Route, o.CIDR))
		}
	}
	message := "every route of the group is steered"
	if len(covering) > 0 {
		message += ": " + few(covering) + ", which is the cluster's own"
	}
	return condition(v1alpha1.ConditionRoutesSteered, len(inside) == 0, ReasonSteered, message,
		ReasonClusterCIDR, "these routes are not steered, because the cluster has the addresses itself: "+few(inside))
}

func (f facts) conflicting() metav1.Condition {
	var said []string
	for _, c := range f.conflicts {
		said = append(said, fmt.Sprintf("%s belongs to %s", c.Pod, c.Group.Name))
	}
	return condition(v1alpha1.ConditionMembersConflicting, len(said) > 0, ReasonOlderGroup, few(said),
		ReasonNoConflict, "no pod that the group selects here belongs to another")
}

// few joins the first of many.
func few(all []string) string {
	const most = 8
	if len(all) <= most {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:most], "; "), len(all)-most)
}
