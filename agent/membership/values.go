package membership

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Group is an EgressGroup, as far as membership goes.
type Group struct {
	// Name is unique in the cluster.
	Name string
	// UID tells the group from another that had its name before.
	UID types.UID
	// Created orders the groups that select one pod: the oldest has it. Kubernetes counts in
	// seconds; groups of the same second are ordered by name.
	Created time.Time
	// Selector picks pods. A missing part matches all; when both are missing, or one is
	// not valid, the group selects no pod.
	Selector v1alpha1.Selector
	// Deleting says that the group is being deleted; it has no members any more.
	Deleting bool
}

// Namespace is a Kubernetes namespace.
type Namespace struct {
	Name string
	// Labels are kept, not copied.
	Labels map[string]string
}

// Pod is a pod of the node. That it is being deleted makes no difference: until its containers
// have finished they may need the tailnet to end their work.
type Pod struct {
	// UID tells the pod from another that had its name before.
	UID             types.UID
	Namespace, Name string
	// Labels are kept, not copied.
	Labels map[string]string
	// HostNetwork says that the pod is in the node's own network namespace.
	HostNetwork bool
	// Finished says that its phase is Succeeded or Failed: no process is left.
	Finished bool
}

// PodRef names a pod.
type PodRef struct {
	UID             types.UID
	Namespace, Name string
}

// String returns "namespace/name".
func (p PodRef) String() string { return p.Namespace + "/" + p.Name }

func (p PodRef) compare(q PodRef) int {
	return cmp.Or(cmp.Compare(p.Namespace, q.Namespace), cmp.Compare(p.Name, q.Name), cmp.Compare(p.UID, q.UID))
}

// GroupRef names a group. The zero value is none.
type GroupRef struct {
	Name string
	UID  types.UID
}

// State is how far a decision has come.
type State int

// The states.
const (
	// Absent: there is no such pod, or none any more.
	Absent State = iota
	// Undecided: what decides is not known yet. Whatever the pod is, it stays.
	Undecided
	// Outside: the pod belongs to no group.
	Outside
	// Member: the pod belongs to a group.
	Member
)

// String returns the state as a word.
func (s State) String() string {
	switch s {
	case Absent:
		return "Absent"
	case Undecided:
		return "Undecided"
	case Outside:
		return "Outside"
	case Member:
		return "Member"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Reason is one word for why a pod is not a member, fit for an event or a metric.
type Reason string

// The reasons.
const (
	// ReasonGroupsUnknown: not all groups are known yet ([Undecided]).
	ReasonGroupsUnknown Reason = "GroupsUnknown"
	// ReasonNamespaceUnknown: the labels of the pod's namespace are not known yet ([Undecided]).
	ReasonNamespaceUnknown Reason = "NamespaceUnknown"
	// ReasonNotSelected: no group selects the pod ([Outside]).
	ReasonNotSelected Reason = "NotSelected"
	// ReasonHostNetwork: the pod has no network namespace of its own ([Outside]).
	ReasonHostNetwork Reason = "HostNetwork"
	// ReasonFinished: the pod has no process any more ([Outside]).
	ReasonFinished Reason = "Finished"
	// ReasonOwnPod: the pod is one of tailgate's ([Outside]).
	ReasonOwnPod Reason = "OwnPod"
)

// Decision is what a pod is, and why. The zero value is that of a pod that is not there.
type Decision struct {
	State State
	// Group is the one that has the pod; zero unless State is [Member].
	Group GroupRef
	// Others are the other groups that select the pod, oldest first: of a member those that it is
	// in conflict with, of a pod that is [Outside] those that select it in vain.
	Others []GroupRef
	// Reason is empty for a member.
	Reason Reason
}

func (d Decision) equal(e Decision) bool {
	return d.State == e.State && d.Group == e.Group && d.Reason == e.Reason && slices.Equal(d.Others, e.Others)
}

// Change is that of one pod's decision.
type Change struct {
	Pod           PodRef
	Before, After Decision
}

// Conflict is a pod that one group selects and an older one has.
type Conflict struct {
	Pod PodRef
	// Group is the older one.
	Group GroupRef
}
