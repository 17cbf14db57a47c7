package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EgressGateway is one group's gateway on one node. The node's agent writes
// it, spec and status, in tailgate's own namespace; the operator runs a
// gateway on the node while it is there and active, and deletes the tailnet
// device when it goes, which its finalizer waits for.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=egw,categories=tailgate
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=`.spec.group`
// +kubebuilder:selectablefield:JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Group",type=string,JSONPath=`.spec.group`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.backendState`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.addresses[0]`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Device",type=string,priority=1,JSONPath=`.status.deviceID`
// +kubebuilder:printcolumn:name="Exit Node",type=string,priority=1,JSONPath=`.status.exitNode.name`
// +kubebuilder:printcolumn:name="Config",type=string,priority=1,JSONPath=`.status.configHash`
type EgressGateway struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which group's gateway, on which node.
	// +required
	Spec EgressGatewaySpec `json:"spec"`
	// status is what the agent sees of the gateway.
	// +optional
	// +kubebuilder:default={}
	Status EgressGatewayStatus `json:"status,omitempty"`
}

// EgressGatewayList is a list of EgressGateways.
//
// +kubebuilder:object:root=true
type EgressGatewayList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EgressGateway `json:"items"`
}

// EgressGatewaySpec says which group's gateway, on which node.
//
// +kubebuilder:validation:XValidation:rule="self.group == oldSelf.group && self.node == oldSelf.node",message="group and node of an EgressGateway never change; delete it and create another"
type EgressGatewaySpec struct {
	// group is the name of the EgressGroup.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",messageExpression="strings.quote(self) + ' cannot be the name of an EgressGroup; write lower case letters, digits, dashes and dots, such as payments'"
	Group string `json:"group"`
	// node is the name of the node.
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",messageExpression="strings.quote(self) + ' cannot be the name of a node; write lower case letters, digits, dashes and dots, such as worker-1.example.com'"
	Node string `json:"node"`
	// active says whether the group has members on the node, so that a gateway has
	// to run there. false: the agent only has something to report, such as pods
	// that another group has. Default: true.
	// +optional
	// +kubebuilder:default=true
	Active *bool `json:"active,omitempty"`
}

// EgressGatewayStatus is what the agent sees of the gateway, most of it from
// the gateway's snapshot.
type EgressGatewayStatus struct {
	// backendState is Tailscale's ipn.State: NoState, NeedsLogin,
	// NeedsMachineAuth, Stopped, Starting or Running; empty while no gateway
	// answers.
	// +optional
	BackendState string `json:"backendState,omitempty"`
	// deviceID is the tailnet's StableNodeID of the gateway, kept when the gateway
	// stops to answer: by it the device is deleted in the end.
	// +optional
	DeviceID string `json:"deviceID,omitempty"`
	// tags are the device's tailnet tags.
	// +optional
	// +listType=set
	Tags []string `json:"tags,omitempty"`
	// addresses are the gateway's tailnet addresses, IPv4 first.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
	// members is the number of pods of the group on the node.
	// +optional
	// +kubebuilder:default=0
	Members int32 `json:"members"`
	// exitNode is the exit node in use.
	// +optional
	ExitNode *GatewayExitNode `json:"exitNode,omitempty"`
	// configHash is the first 12 hex digits of the SHA-256 of the configuration
	// that the gateway applied.
	// +optional
	ConfigHash string `json:"configHash,omitempty"`
	// version is the gateway's build version.
	// +optional
	Version string `json:"version,omitempty"`
	// conditions are Ready, AuthKeyAccepted, ConfigApplied, RoutesSteered and
	// MembersConflicting.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GatewayExitNode is the exit node that a gateway wants and the one that it
// uses.
type GatewayExitNode struct {
	// wanted is the selector that the gateway was given.
	// +optional
	Wanted string `json:"wanted,omitempty"`
	// id is the StableNodeID of the exit node in use; empty: none is.
	// +optional
	ID string `json:"id,omitempty"`
	// name is its MagicDNS name.
	// +optional
	Name string `json:"name,omitempty"`
	// online is what the tailnet says of it.
	// +optional
	Online bool `json:"online,omitempty"`
	// message says why none is in use though one is wanted.
	// +optional
	Message string `json:"message,omitempty"`
}
