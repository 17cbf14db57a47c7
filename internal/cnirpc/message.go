package cnirpc

import (
	"errors"
	"net/netip"
	"time"
)

// Version is the protocol version that this build speaks. It is told, not negotiated: see the package comment.
const Version = 1

// Socket is where the agent listens on a node: 0600, in a folder that is 0700.
const Socket = "/run/tailgate/agent/cni.sock"

// A Verb is what a request asks for: CNI_COMMAND, as the runtime gave it to the plugin.
type Verb string

// The verbs that [Version] has.
const (
	// Add: the attachment is being made; a member is to have its tailnet before the reply.
	Add Verb = "ADD"
	// Del: the attachment is being taken down. Done twice, or for an unknown one, it is a success.
	Del Verb = "DEL"
	// Check: is what Add made still there?
	Check Verb = "CHECK"
	// GC: of Request.Network, only ValidAttachments are still in use.
	GC Verb = "GC"
	// Status: could Add be served now?
	Status Verb = "STATUS"
)

// Request is what the plugin asks. Add, Del and Check are about one attachment (ContainerID and IfName); GC and
// Status are about a network.
type Request struct {
	// Version is the sender's [Version]; [WriteRequest] sets it.
	Version int  `json:"version"`
	Verb    Verb `json:"verb"`
	// TimeoutMillis is how long after its arrival an answer is still of use, in milliseconds; once an agent has said that the
	// answer to an Add is Pending, [MemberTimeout] takes its place. It is a length of time, because a clock may be set. 0: not said.
	TimeoutMillis int64 `json:"timeoutMillis,omitempty"`
	// Interim: the sender of an Add takes a first reply that is Pending, before the answer.
	Interim bool `json:"interim,omitempty"`
	// Patience is how long [Call] waits for the agent's first word on an Add: the answer, or that the pod is a member. For an
	// answer about a member it waits as long as its context lets it. 0: that long in any case. It does not travel.
	Patience time.Duration `json:"-"`
	// Plugin is the plugin's build version.
	Plugin string `json:"plugin,omitempty"`
	// Network is the name of the network configuration.
	Network string `json:"network,omitempty"`

	// ContainerID is the sandbox's ID at the runtime, IfName the interface that the attachment is for.
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	// Netns is the path of the pod's network namespace on the node. Del may come without.
	Netns string `json:"netns,omitempty"`
	// Pod is what CNI_ARGS says; zero when the runtime is not Kubernetes'.
	Pod Pod `json:"pod,omitzero"`
	// Interfaces and IPs are what the plugins before made; none when there was no previous result.
	Interfaces []Interface `json:"interfaces,omitempty"`
	IPs        []IP        `json:"ips,omitempty"`
	// ValidAttachments are those of GC. None at all means that the network has none left.
	ValidAttachments []Attachment `json:"validAttachments,omitempty"`
}

// Pod is a pod's identity, of which each part may be missing: UID came to CNI_ARGS late.
type Pod struct {
	Namespace        string `json:"namespace,omitempty"`
	Name             string `json:"name,omitempty"`
	UID              string `json:"uid,omitempty"`
	InfraContainerID string `json:"infraContainerID,omitempty"`
}

// Interface is one of a previous result.
type Interface struct {
	Name string `json:"name"`
	MAC  string `json:"mac,omitempty"`
	// Sandbox is the path of the namespace that it is in; "": the node's.
	Sandbox string `json:"sandbox,omitempty"`
}

// IP is an address of a previous result.
type IP struct {
	// Address is the address with the length of its network.
	Address netip.Prefix `json:"address"`
	// Gateway is the zero Addr when there is none.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Interface is an index into Request.Interfaces; nil: not said.
	Interface *int `json:"interface,omitempty"`
}

// Attachment names one attachment of a network.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// Reply is the agent's answer.
type Reply struct {
	// Version is the sender's [Version]; [WriteReply] sets it.
	Version int `json:"version"`
	// Member says, to Add and Check, whether a group selects the pod.
	Member bool `json:"member,omitempty"`
	// Pending: this is not the answer yet, which follows. An agent says so to an Add as soon as it knows that the pod is a
	// member: from then on a pod whose answer is lost must not run.
	Pending bool `json:"pending,omitempty"`
	// Error is nil when all is well.
	Error *Error `json:"error,omitempty"`
}

// A Kind says what an error means to the plugin.
type Kind string

// The kinds that [Version] has. Only TryAgain fails an Add: a new kind must never be meant to.
const (
	// Unsupported: the agent does not know the verb.
	Unsupported Kind = "unsupported"
	// Invalid: the agent does not understand the request, and would not if asked again.
	Invalid Kind = "invalid"
	// Unavailable: the agent could not do it in time, or is about to end.
	Unavailable Kind = "unavailable"
	// TryAgain: the pod must not run as things are, because what it sends would leave by a way that its group
	// forbids. The plugin fails the Add with code 11, and the runtime asks again with a new sandbox.
	TryAgain Kind = "try-again"
	// Missing answers Check: the message says what a member lacks.
	Missing Kind = "missing"
	// Internal is any other error of the agent.
	Internal Kind = "internal"
)

// Error is an error on the wire.
type Error struct {
	Kind Kind `json:"kind"`
	// Message is a sentence for a person.
	Message string `json:"message,omitempty"`
}

// Error implements error.
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Kind)
	}
	return e.Message
}

// KindOf returns the kind of the first [*Error] that err wraps; "": it wraps none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}
