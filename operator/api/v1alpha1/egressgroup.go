package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EgressGroup puts the pods that it selects onto a tailnet, for egress: they
// reach tailnet peers, and on request subnet routes and everything else,
// through one gateway a node that has the group's own identity. Pods need no
// sidecar, no annotation and no restart.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=eg,categories=tailgate
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Attach",type=string,JSONPath=`.spec.attach`
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.memberPods`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Gateways",type=integer,priority=1,JSONPath=`.status.gateways.ready`
// +kubebuilder:printcolumn:name="Desired",type=integer,priority=1,JSONPath=`.status.gateways.desired`
// +kubebuilder:printcolumn:name="Exit Node",type=string,priority=1,JSONPath=`.status.exitNode.name`
// +kubebuilder:printcolumn:name="Status",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type EgressGroup struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which pods, and what of the tailnet they reach.
	// +required
	Spec EgressGroupSpec `json:"spec"`
	// status is what the operator observed.
	// +optional
	// +kubebuilder:default={}
	Status EgressGroupStatus `json:"status,omitempty"`
}

// EgressGroupList is a list of EgressGroups.
//
// +kubebuilder:object:root=true
type EgressGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EgressGroup `json:"items"`
}

// EgressGroupSpec is what a user wants of a group.
//
// +kubebuilder:validation:XValidation:rule="self.mode == 'subnet' || !has(self.routes) || self.routes.size() == 0",fieldPath=".routes",message="routes need mode: subnet; write that, or remove the routes: in mode cgnat members reach tailnet peers only"
type EgressGroupSpec struct {
	// selector picks the members. A pod is a member of at most one group: the
	// oldest that selects it. Pods on the host network are never members.
	// +required
	Selector Selector `json:"selector"`

	// mode is what members reach without an exit node. cgnat: tailnet peers, by
	// their addresses in 100.64.0.0/10 and fd7a:115c:a1e0::/48. subnet: those and
	// the routes. Default: cgnat.
	// +optional
	// +kubebuilder:default=cgnat
	Mode Mode `json:"mode,omitempty"`

	// routes are the tailnet CIDRs that members reach through the gateway, in mode
	// subnet, such as 10.0.0.0/8. They must be none of the cluster's own. Without
	// routes, mode subnet steers every route that the gateway accepts, as they
	// come and go.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",messageExpression="isIP(self) ? self + ' is an address; write the CIDR ' + self + (ip(self).family() == 4 ? '/32' : '/128') : self.lowerAscii().startsWith('::ffff:') ? self + ' is IPv4 written as IPv6; write it as IPv4, such as 10.0.0.0/8' : strings.quote(self) + ' is not a CIDR; write an address and the length of its prefix, such as 10.0.0.0/8 or fd00:1::/48'"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() == 0 || string(cidr(self).masked()) == self",messageExpression="'%s is not in canonical form; write %s'.format([self, string(cidr(self).masked())])"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() > 0",messageExpression="self + ' is a default route; remove it, and name an exitNode to send everything through the tailnet'"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || !['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '255.255.255.255/32', '::/127', 'fe80::/10', 'ff00::/8', 'fd2c:7d4a:91e6:7717::/64'].exists(net, cidr(net).containsCIDR(self))",messageExpression="self + (cidr('169.254.64.0/18').containsCIDR(self) || cidr('fd2c:7d4a:91e6:7717::/64').containsCIDR(self) ? ' lies in what tailgate gives its members as addresses; remove it' : ' is loopback, link-local, multicast or the like, which is not routed; remove it')"
	Routes []string `json:"routes,omitempty"`

	// acceptRoutes lets the gateway accept the routes that subnet routers and app
	// connectors advertise. Default: true.
	// +optional
	// +kubebuilder:default=true
	AcceptRoutes *bool `json:"acceptRoutes,omitempty"`

	// exitNode sends everything else of the members, but for the cluster's own
	// addresses, through an exit node of the tailnet. While the exit node cannot
	// be reached, that traffic is refused; it never leaves by the pod's own
	// interface.
	// +optional
	ExitNode *ExitNode `json:"exitNode,omitempty"`

	// dns says how members resolve names.
	// +optional
	DNS *DNS `json:"dns,omitempty"`

	// tags are the tailnet tags of the group's gateways, which the tailnet's
	// policy grants access to; the operator's OAuth client must own them. Default:
	// tag:egress-NAME, with dots in the group's name written as dashes.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.size() > 0",message="tags is empty, and a gateway needs a tag; name one, or remove tags to get tag:egress- and the group's name"
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^tag:[A-Za-z][A-Za-z0-9-]*$')",messageExpression="self.matches('^[A-Za-z][A-Za-z0-9-]*$') ? self + ' lacks its prefix; write tag:' + self : strings.quote(self) + ' is not a tag; write tag: and a name of letters, digits and dashes that begins with a letter, such as tag:egress-payments'"
	Tags []string `json:"tags,omitempty"`

	// replicas is the number of gateways in a shared pool. There is no pool yet,
	// but one gateway on each node that has members, so it is 1. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:XValidation:rule="self == 1",messageExpression="'replicas cannot be %d yet; write 1 or remove it: each node that has members has one gateway'.format([self])"
	Replicas *int32 `json:"replicas,omitempty"`

	// attach is how members are attached to the gateway. routed: by a veth of
	// their own, the only way now. Default: routed.
	// +optional
	// +kubebuilder:default=routed
	Attach Attach `json:"attach,omitempty"`

	// datapath is what forwards members' packets. kernel: Linux routing and
	// nftables, the only one now. Default: kernel.
	// +optional
	// +kubebuilder:default=kernel
	Datapath Datapath `json:"datapath,omitempty"`

	// gateway says how the group's gateway pods run.
	// +optional
	Gateway *Gateway `json:"gateway,omitempty"`
}

// Mode is what members reach without an exit node.
// +kubebuilder:validation:Enum=cgnat;subnet
type Mode string

// The modes.
const (
	ModeCGNAT  Mode = "cgnat"
	ModeSubnet Mode = "subnet"
)

// Attach is how members are attached to the gateway.
// +kubebuilder:validation:Enum=routed
type Attach string

// AttachRouted is a veth between member and gateway.
const AttachRouted Attach = "routed"

// Datapath is what forwards members' packets.
// +kubebuilder:validation:Enum=kernel
type Datapath string

// DatapathKernel is Linux routing and nftables.
const DatapathKernel Datapath = "kernel"

// ExitNode is an exit node and how it is used.
type ExitNode struct {
	// nodeID is the exit node: its StableNodeID (such as nXyZ12CNTRL), its tailnet
	// IP, its MagicDNS name (exit-fra1 or exit-fra1.example.ts.net), or auto:any
	// for the best one that the gateway may use.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == 'auto:any' || (isIP(self) ? cidr('100.64.0.0/10').containsIP(self) || cidr('fd7a:115c:a1e0::/48').containsIP(self) : self.matches('^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.]?$') && !self.matches('[.][0-9]+[.]?$'))",messageExpression="(isIP(self) ? self + ' is not an address of the tailnet, which are in 100.64.0.0/10 and fd7a:115c:a1e0::/48' : self.startsWith('auto:') ? strings.quote(self) + ' is no choice that a gateway can make' : strings.quote(self) + ' cannot be an exit node') + '; write a StableNodeID such as nXyZ12CNTRL, a tailnet IP, a MagicDNS name such as exit-fra1.example.ts.net, or auto:any'"
	NodeID string `json:"nodeID"`
	// allowLANAccess keeps the networks that the gateway is attached to off the
	// exit node. Default: false.
	// +optional
	// +kubebuilder:default=false
	AllowLANAccess bool `json:"allowLANAccess,omitempty"`
}

// DNS says how members resolve names.
type DNS struct {
	// magicDNS makes members resolve tailnet names with no change to the pod:
	// their queries go to the gateway's resolver, which asks the cluster's for
	// every other name. Default: false.
	// +optional
	// +kubebuilder:default=false
	MagicDNS bool `json:"magicDNS,omitempty"`
}

// GatewayNodes says on which nodes a group's gateways run.
// +kubebuilder:validation:Enum=members;all
type GatewayNodes string

// Where gateways run.
const (
	// GatewayNodesMembers: nodes that have members.
	GatewayNodesMembers GatewayNodes = "members"
	// GatewayNodesAll: every node, so that a node's first member does not wait for
	// a gateway to start.
	GatewayNodesAll GatewayNodes = "all"
)

// Gateway says how gateway pods run.
type Gateway struct {
	// nodes is where gateways run. members: on nodes that have members. all: on
	// every node, so that a node's first member does not wait for a gateway to
	// start. Default: members.
	// +optional
	// +kubebuilder:default=members
	Nodes GatewayNodes `json:"nodes,omitempty"`
	// resources are those of the gateway's container. Changing them replaces the
	// gateway pods. Default: requests of 20m CPU and 64Mi memory, a limit of 512Mi
	// memory.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims) || self.claims.size() == 0",fieldPath=".claims",message="gateways take no resource claims; remove claims"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || self.requests.size() == ['cpu', 'memory', 'ephemeral-storage'].filter(n, n in self.requests).size()",fieldPath=".requests",messageExpression="'requests can be for cpu, memory and ephemeral-storage; remove what else is in %s'.format([self.requests])"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || self.limits.size() == ['cpu', 'memory', 'ephemeral-storage'].filter(n, n in self.limits).size()",fieldPath=".limits",messageExpression="'limits can be for cpu, memory and ephemeral-storage; remove what else is in %s'.format([self.limits])"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !['cpu', 'memory', 'ephemeral-storage'].exists(n, n in self.requests && (!isQuantity(string(self.requests[n])) || quantity(string(self.requests[n])).isLessThan(quantity('0'))))",fieldPath=".requests",messageExpression="'requests are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct %s'.format([self.requests])"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !['cpu', 'memory', 'ephemeral-storage'].exists(n, n in self.limits && (!isQuantity(string(self.limits[n])) || quantity(string(self.limits[n])).isLessThan(quantity('0'))))",fieldPath=".limits",messageExpression="'limits are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct %s'.format([self.limits])"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !has(self.limits) || !['cpu', 'memory', 'ephemeral-storage'].exists(n, n in self.requests && n in self.limits && isQuantity(string(self.requests[n])) && isQuantity(string(self.limits[n])) && quantity(string(self.requests[n])).isGreaterThan(quantity(string(self.limits[n]))))",fieldPath=".requests",messageExpression="'the request for %s is above its limit; lower the request or raise the limit'.format([['cpu', 'memory', 'ephemeral-storage'].filter(n, n in self.requests && n in self.limits && isQuantity(string(self.requests[n])) && isQuantity(string(self.limits[n])) && quantity(string(self.requests[n])).isGreaterThan(quantity(string(self.limits[n]))))[0]])"
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
}

// EgressGroupStatus is what the operator observed.
type EgressGroupStatus struct {
	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, AuthKeyReady, ConfigRendered, GatewaysReady,
	// ExitNodeReady and MembersConflicting; the message of each says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// memberPods is the number of pods that are members, in the whole cluster.
	// +optional
	// +kubebuilder:default=0
	MemberPods int32 `json:"memberPods"`
	// gateways counts the group's gateways.
	// +optional
	// +kubebuilder:default={}
	Gateways GatewayCount `json:"gateways,omitempty"`
	// exitNode is the exit node in use, as the gateways found it in the tailnet.
	// +optional
	ExitNode *ResolvedExitNode `json:"exitNode,omitempty"`
	// tags are the tailnet tags of the group's gateways, with the default written
	// out.
	// +optional
	// +listType=set
	Tags []string `json:"tags,omitempty"`
	// configHash is the first 12 hex digits of the SHA-256 of the gateways'
	// configuration; a gateway that applied it reports the same in its
	// EgressGateway.
	// +optional
	ConfigHash string `json:"configHash,omitempty"`
}

// GatewayCount counts gateways.
type GatewayCount struct {
	// desired is the number of gateways that should run.
	// +optional
	// +kubebuilder:default=0
	Desired int32 `json:"desired"`
	// ready is the number of those that carry members' traffic.
	// +optional
	// +kubebuilder:default=0
	Ready int32 `json:"ready"`
}

// ResolvedExitNode is an exit node of the tailnet.
type ResolvedExitNode struct {
	// id is the StableNodeID.
	// +optional
	ID string `json:"id,omitempty"`
	// name is the MagicDNS name, without a dot at its end.
	// +optional
	Name string `json:"name,omitempty"`
}
