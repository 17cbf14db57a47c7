package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// status adds up what gateways and steps say. It reads nothing from a server.
func (r *groupRun) status(context.Context) (time.Duration, error) {
	s := &r.group.Status
	s.MemberPods = 0
	for i := range r.gateways {
		if !deleting(&r.gateways[i]) {
			s.MemberPods += r.gateways[i].Status.Members
		}
	}
	wanted := slices.DeleteFunc(slices.Clone(r.gateways), func(g v1alpha1.EgressGateway) bool { return !wants(&g) })
	s.Gateways = r.count(wanted)
	r.gatewaysReady(wanted)
	r.exitNode(wanted)
	r.conflicts()
	r.ready()
	r.timeConfig(wanted)
	if slices.ContainsFunc(r.gateways, func(g v1alpha1.EgressGateway) bool { return deleting(&g) }) {
		// What holds a cleanup is known here only, and no event tells of it.
		return cleanupPoll, nil
	}
	return 0, nil
}

// wants reports whether a gateway should run for an EgressGateway.
func wants(g *v1alpha1.EgressGateway) bool {
	return !deleting(g) && (g.Spec.Active == nil || *g.Spec.Active)
}

// runsEverywhere reports whether gateways run on nodes without members, too.
func runsEverywhere(g *v1alpha1.EgressGroup) bool {
	return g.Spec.Gateway != nil && g.Spec.Gateway.Nodes == v1alpha1.GatewayNodesAll
}

// count counts gateways. One is ready when its pod is and its agent does not say otherwise.
func (r *groupRun) count(wanted []v1alpha1.EgressGateway) v1alpha1.GatewayCount {
	desired := int32(len(wanted))
	if runsEverywhere(r.group) {
		desired = r.daemons.Status.DesiredNumberScheduled
	}
	var sick int32
	for i := range wanted {
		if c := readyOf(&wanted[i]); c != nil && c.Status != metav1.ConditionTrue {
			sick++
		}
	}
	return v1alpha1.GatewayCount{Desired: desired, Ready: max(0, min(r.daemons.Status.NumberReady, desired-sick))}
}

func readyOf(g *v1alpha1.EgressGateway) *metav1.Condition {
	return meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
}

func (r *groupRun) gatewaysReady(wanted []v1alpha1.EgressGateway) {
	const kind = v1alpha1.ConditionGatewaysReady
	n := r.group.Status.Gateways
	late := r.cleanups.late(r.gateways)
	switch {
	case r.failed != nil:
		r.set(kind, metav1.ConditionFalse, reasonOf(r.failed), "gateways run as they did before: %s", r.failed)
	case n.Ready < n.Desired:
		r.set(kind, metav1.ConditionFalse, ReasonNotReady, "%d of %d gateways are ready; %s", n.Ready, n.Desired, r.sick(wanted))
	case late != "":
		r.set(kind, metav1.ConditionTrue, ReasonCleanupDelayed, "%d of %d gateways are ready; %s", n.Ready, n.Desired, late)
	case n.Desired == 0 && runsEverywhere(r.group):
		r.set(kind, metav1.ConditionTrue, ReasonNoMembers, "there is no node that gateways can run on")
	case n.Desired == 0:
		r.set(kind, metav1.ConditionTrue, ReasonNoMembers, "no pod is a member, so no gateway is needed; spec.selector says which pods are")
	default:
		r.set(kind, metav1.ConditionTrue, ReasonAllReady, "%d of %d gateways are ready", n.Ready, n.Desired)
	}
}

// sick names nodes whose gateways are not ready, and says why if their agents know.
func (r *groupRun) sick(wanted []v1alpha1.EgressGateway) string {
	var said []string
	for i := range wanted {
		if c := readyOf(&wanted[i]); c != nil && c.Status != metav1.ConditionTrue {
			said = append(said, wanted[i].Spec.Node+": "+cmp.Or(c.Message, c.Reason))
		}
	}
	if len(said) > 0 {
		return few(said)
	}
	return fmt.Sprintf("look at: kubectl -n %s get pods -o wide -l %s=%s",
		r.Render.Namespace, v1alpha1.LabelGroup, v1alpha1.GroupKey(r.group.Name))
}

// few joins the first of many.
func few(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:most], "; "), len(all)-most)
}

// exitNode sets the exit node in use, and whether every gateway uses it.
func (r *groupRun) exitNode(wanted []v1alpha1.EgressGateway) {
	const kind = v1alpha1.ConditionExitNodeReady
	s := &r.group.Status
	s.ExitNode = nil
	if r.group.Spec.ExitNode == nil {
		meta.RemoveStatusCondition(&s.Conditions, kind)
		return
	}
	want := r.group.Spec.ExitNode.NodeID
	uses := map[v1alpha1.ResolvedExitNode]int{}
	var pending, unusable, offline []string
	for i := range wanted {
		node, exit := wanted[i].Spec.Node, wanted[i].Status.ExitNode
		switch {
		case exit == nil || exit.Wanted != want:
			pending = append(pending, node)
		case exit.ID == "":
			unusable = append(unusable, node+": "+cmp.Or(exit.Message, "it finds no such exit node"))
		default:
			uses[v1alpha1.ResolvedExitNode{ID: exit.ID, Name: exit.Name}]++
			if !exit.Online {
				offline = append(offline, node+": "+cmp.Or(exit.Name, exit.ID))
			}
		}
	}
	for used, n := range uses {
		if s.ExitNode == nil || n > uses[*s.ExitNode] || n == uses[*s.ExitNode] && used.ID < s.ExitNode.ID {
			s.ExitNode = &used
		}
	}
	const refused = "traffic for it is refused meanwhile"
	switch {
	case len(wanted) == 0:
		r.set(kind, metav1.ConditionTrue, ReasonNoMembers, "no gateway runs that could use %s", want)
	case len(unusable) > 0:
		r.set(kind, metav1.ConditionFalse, ReasonExitNodeUnusable, "%s cannot be used, and %s; check spec.exitNode.nodeID and the tailnet's policy; %s", want, refused, few(unusable))
	case len(offline) > 0:
		r.set(kind, metav1.ConditionFalse, ReasonExitNodeOffline, "%s is offline, and %s; bring it back or name another in spec.exitNode.nodeID; %s", want, refused, few(offline))
	case len(pending) > 0:
		r.set(kind, metav1.ConditionUnknown, ReasonExitNodePending, "these nodes' gateways did not say yet that they use %s: %s", want, few(pending))
	default:
		r.set(kind, metav1.ConditionTrue, ReasonExitNodeInUse, "every gateway uses %s", cmp.Or(s.ExitNode.Name, s.ExitNode.ID))
	}
}

// conflicts says whether another group has pods that this one selects.
func (r *groupRun) conflicts() {
	var said []string
	for i := range r.gateways {
		c := meta.FindStatusCondition(r.gateways[i].Status.Conditions, v1alpha1.ConditionMembersConflicting)
		if c != nil && c.Status == metav1.ConditionTrue && !deleting(&r.gateways[i]) {
			said = append(said, r.gateways[i].Spec.Node+": "+cmp.Or(c.Message, c.Reason))
		}
	}
	const kind = v1alpha1.ConditionMembersConflicting
	if len(said) > 0 {
		r.set(kind, metav1.ConditionTrue, ReasonOlderGroup, "a pod belongs to the oldest group that selects it; narrow one of the selectors; %s", few(said))
		return
	}
	r.set(kind, metav1.ConditionFalse, ReasonNoConflict, "no pod that the group selects belongs to another")
}

// ready sums up the other conditions: the first that does not hold says what is wrong.
func (r *groupRun) ready() {
	s := &r.group.Status
	for _, kind := range []string{
		v1alpha1.ConditionConfigRendered, v1alpha1.ConditionAuthKeyReady,
		v1alpha1.ConditionGatewaysReady, v1alpha1.ConditionExitNodeReady,
	} {
		c := meta.FindStatusCondition(s.Conditions, kind)
		if c == nil || c.Status == metav1.ConditionTrue {
			continue
		}
		r.set(v1alpha1.ConditionReady, c.Status, c.Reason, "%s", c.Message)
		return
	}
	if s.Gateways.Desired == 0 {
		r.set(v1alpha1.ConditionReady, metav1.ConditionTrue, ReasonNoMembers, "ready for members; there are none")
		return
	}
	r.set(v1alpha1.ConditionReady, metav1.ConditionTrue, ReasonReady, "%d of %d gateways carry traffic", s.Gateways.Ready, s.Gateways.Desired)
}

// timeConfig measures how long a change of the configuration takes to be applied everywhere.
func (r *groupRun) timeConfig(wanted []v1alpha1.EgressGateway) {
	hash := r.group.Status.ConfigHash
	for i := range wanted {
		if wanted[i].Status.ConfigHash != hash {
			return
		}
	}
	if took, ok := r.timers.stop(r.group.Name, hash); ok && len(wanted) > 0 {
		r.Metrics.configApplied(took)
	}
}
