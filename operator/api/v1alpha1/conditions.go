package v1alpha1

// Conditions of an EgressGroup; each has a reason of those below and a sentence that says what to do.
const (
	// ConditionReady sums up the others: members' traffic reaches the tailnet.
	ConditionReady = "Ready"
	// ConditionAuthKeyReady: there is an auth key with which gateways can log in.
	ConditionAuthKeyReady = "AuthKeyReady"
	// ConditionConfigRendered: the gateways' configuration is written for this generation.
	ConditionConfigRendered = "ConfigRendered"
	// ConditionGatewaysReady: every gateway that should run carries traffic.
	ConditionGatewaysReady = "GatewaysReady"
	// ConditionExitNodeReady: every gateway uses the exit node; absent without one.
	ConditionExitNodeReady = "ExitNodeReady"
	// ConditionMembersConflicting is true while pods that the group selects belong to an older group.
	ConditionMembersConflicting = "MembersConflicting"
)

// Conditions of an EgressGateway, with ConditionReady and ConditionMembersConflicting.
const (
	// ConditionAuthKeyAccepted is false when the tailnet refused the auth key at the last login.
	ConditionAuthKeyAccepted = "AuthKeyAccepted"
	// ConditionConfigApplied is false when the gateway did not take its newest configuration.
	ConditionConfigApplied = "ConfigApplied"
	// ConditionRoutesSteered is false while routes of the group lie inside the cluster's own addresses, which stay
	// on the pod network; absent where there are no members.
	ConditionRoutesSteered = "RoutesSteered"
)

// Labels, annotations and finalizers.
const (
	// LabelGroup is on every object made for a group; its value is [GroupKey].
	LabelGroup = "tailscale.rajsingh.info/group"
	// AnnotationGroup is on the same objects; its value is the group's whole name, which [GroupKey] may shorten.
	AnnotationGroup = LabelGroup
	// LabelName is the recommended label whose value is GatewayPodName on every gateway's pod.
	LabelName      = "app.kubernetes.io/name"
	GatewayPodName = "tailgate-gateway"
	// NodeLabelPrefix and [GroupKey] are the label of a node that a group's gateways run on; its
	// value is empty.
	NodeLabelPrefix = "gateway.tailscale.rajsingh.info/"
	// FinalizerGroup holds a deleted group until its gateways, keys and devices are gone.
	FinalizerGroup = "tailscale.rajsingh.info/group"
	// FinalizerDevice holds a deleted EgressGateway until its tailnet device is gone. Who makes an
	// EgressGateway puts it there.
	FinalizerDevice = "tailscale.rajsingh.info/device"
)
