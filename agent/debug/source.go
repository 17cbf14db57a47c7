package debug

import (
	"net/netip"
	"time"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// Source is what the pages ask of the agent. Its methods are called by several goroutines at once. None but
// Inspect may wait for anything but a lock: the liveness probe calls them all, to see whether the locks can be had.
type Source interface {
	// Report is the stitch.Engine's Snapshot.
	Report() stitch.Report
	// Inspect is the stitch.Engine's.
	Inspect(id string) (joiner.Inspection, error)
	// Install is the install.Installer's Status.
	Install() install.Status
	// Attachments are the attachments.Store's List, Stats and Problems.
	Attachments() ([]attachments.Attachment, attachments.Stats, []error)
	// ClusterCIDRs are what stays direct, in order.
	ClusterCIDRs() []netip.Prefix
	// Gateways are those of this node; a group may have two while one takes over from the other.
	Gateways() []GatewayView
	// Pods are all of this node.
	Pods() []PodView
	// Ready returns nil when CNI requests are served and all watches have synced; otherwise a sentence that says
	// what is missing.
	Ready() error
}

// GatewayView is a gateway on this node, as the agent follows it.
type GatewayView struct {
	Group string
	// Pod is the name of the gateway's pod.
	Pod string
	// NetNS is the path of its network namespace; "": not known yet.
	NetNS string
	// Socket is the path of the socket that its snapshots come from; "": not known yet.
	Socket string
	// Snapshot is the last that it said of itself; nil: it has said nothing, or does not answer any more. Heard is when it
	// last said something; zero: never.
	Snapshot *snapshot.Snapshot
	Heard    time.Time
	// Err is why it is not heard now; nil: it is.
	Err error
}

// ready reports whether members' packets get through, as far as the gateway says.
func (v GatewayView) ready() bool { return v.Err == nil && v.Snapshot != nil && v.Snapshot.Ready }

// PodView is a pod of this node.
type PodView struct {
	// Name is "namespace/name", UID the one that the container runtime knows, and so a member's ID.
	Name, UID string
	// State is the word of a membership.State, Group the group that has the pod, and Others are the other groups that select it,
	// oldest first. Reason is a membership.Reason; "": it is a member.
	State, Group string
	Others       []string
	Reason       string
	// ContainerID is that of its sandbox, NetNS the path of its network namespace; "": not known, or it has none of its own.
	ContainerID, NetNS string
}
