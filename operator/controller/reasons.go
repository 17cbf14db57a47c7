package controller

// Reasons: the words that conditions, events and the label "reason" of metrics share. The
// tailnet's API adds those of type tailnet.Reason.
const (
	// ReasonReady: all is well.
	ReasonReady = "Ready"
	// ReasonDeleting: the group is being deleted; the message says what it waits for.
	ReasonDeleting = "Deleting"
	// ReasonApplyFailed: the Kubernetes API did not take an object.
	ReasonApplyFailed = "ApplyFailed"

	// ReasonKeyValid: gateways can log in with the auth key.
	ReasonKeyValid = "KeyValid"
	// ReasonKeyMissing: there was no auth key.
	ReasonKeyMissing = "KeyMissing"
	// ReasonKeyAged: half of the auth key's lifetime has passed.
	ReasonKeyAged = "KeyAged"
	// ReasonKeyRefused: the tailnet refused the auth key to a gateway.
	ReasonKeyRefused = "KeyRefused"
	// ReasonTagsChanged: the auth key gives other tags than the group has now.
	ReasonTagsChanged = "TagsChanged"
	// ReasonClientReplaced: the auth key was minted with other credentials.
	ReasonClientReplaced = "ClientReplaced"
	// ReasonRenewalDelayed: a new auth key cannot be minted; the present one is still good.
	ReasonRenewalDelayed = "RenewalDelayed"
	// ReasonKeyMinted: a new auth key is in the group's Secret.
	ReasonKeyMinted = "KeyMinted"
	// ReasonKeyAbandoned: a key could not be revoked in time; it expires by itself.
	ReasonKeyAbandoned = "KeyAbandoned"
	// ReasonCredentialsMissing: there is no Secret with the tailnet's credentials.
	ReasonCredentialsMissing = "CredentialsMissing"
	// ReasonCredentialsIncomplete: the Secret lacks something.
	ReasonCredentialsIncomplete = "CredentialsIncomplete"

	// ReasonRendered: the gateways' configuration is written.
	ReasonRendered = "Rendered"
	// ReasonRenderFailed: the spec has no configuration.
	ReasonRenderFailed = "RenderFailed"
	// ReasonSelectorInvalid: Kubernetes does not take the selector, so no pod is a member.
	ReasonSelectorInvalid = "SelectorInvalid"

	// ReasonNoMembers: no gateway is needed.
	ReasonNoMembers = "NoMembers"
	// ReasonAllReady: every gateway that should run does.
	ReasonAllReady = "AllReady"
	// ReasonNotReady: some gateway does not.
	ReasonNotReady = "NotReady"
	// ReasonCleanupDelayed: gateways run, and the device of one that is gone could not be deleted yet.
	ReasonCleanupDelayed = "CleanupDelayed"

	// ReasonExitNodeInUse: every gateway uses the exit node.
	ReasonExitNodeInUse = "ExitNodeInUse"
	// ReasonExitNodePending: a gateway did not say yet.
	ReasonExitNodePending = "ExitNodePending"
	// ReasonExitNodeUnusable: a gateway finds no such exit node.
	ReasonExitNodeUnusable = "ExitNodeUnusable"
	// ReasonExitNodeOffline: the exit node is not connected.
	ReasonExitNodeOffline = "ExitNodeOffline"

	// ReasonNoConflict: every pod that the group selects is its own.
	ReasonNoConflict = "NoConflict"
	// ReasonOlderGroup: pods that the group selects belong to an older group.
	ReasonOlderGroup = "OlderGroup"

	// ReasonGroupGone and ReasonNodeGone: why an EgressGateway is deleted.
	ReasonGroupGone = "GroupGone"
	ReasonNodeGone  = "NodeGone"
	// ReasonDeviceDeleted: the device is gone from the tailnet.
	ReasonDeviceDeleted = "DeviceDeleted"
	// ReasonDeviceAbandoned: the device could not be deleted in time; a person has to.
	ReasonDeviceAbandoned = "DeviceAbandoned"
	// ReasonDeviceForeign: the device is none of the group's, by its tags, so it is neither deleted nor tagged.
	ReasonDeviceForeign = "DeviceForeign"
	// ReasonDeviceTagged: the device's tags were changed.
	ReasonDeviceTagged = "DeviceTagged"
	// ReasonGatewayStays: an EgressGateway is gone whose gateway goes on, because one runs on every node.
	ReasonGatewayStays = "GatewayStays"
	// ReasonPodsRemain: gateway pods did not end in time; their node is probably dead.
	ReasonPodsRemain = "PodsRemain"
)
