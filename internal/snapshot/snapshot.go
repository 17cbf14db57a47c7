package snapshot

import (
	"net/netip"
	"time"
)

// Snapshot is the state of one gateway at one time. Consumers ignore fields that they do not know.
type Snapshot struct {
	// Version is the gateway's build version.
	Version string `json:"version"`
	// Time is when the snapshot was made.
	Time time.Time `json:"time"`
	// BackendState is Tailscale's ipn.State: NoState, NeedsLogin, NeedsMachineAuth, Stopped, Starting, Running.
	BackendState string `json:"backendState"`
	// Ready: the backend runs and the kernel is as wanted, so that members' packets reach the tailnet.
	Ready bool `json:"ready"`
	// Problems are sentences for a person, most important first; empty when all is well.
	Problems []string `json:"problems,omitempty"`

	// DeviceID is the tailnet's StableNodeID, by which the tailnet API knows the device; "" before login, and until the tailnet has
	// confirmed it to this process: what an earlier one left on the node may be of a device that has been deleted since.
	DeviceID string `json:"deviceID,omitempty"`
	// NodeKey is the public node key, "nodekey:…".
	NodeKey string `json:"nodeKey,omitempty"`
	// Name is the MagicDNS name without a trailing dot.
	Name string `json:"name,omitempty"`
	// Tags are the device's tailnet tags.
	Tags []string `json:"tags,omitempty"`
	// KeyExpiry is when the node key expires; zero: never.
	KeyExpiry time.Time `json:"keyExpiry,omitzero"`
	// Addrs are the device's tailnet addresses.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Routes are the accepted routes beyond the tailnet's own prefixes: subnets,
	// app connector routes; never default routes.
	Routes []netip.Prefix `json:"routes,omitempty"`
	// LocalRoutes stay off the exit node: the gateway's LAN, when the config says so.
	LocalRoutes []netip.Prefix `json:"localRoutes,omitempty"`
	// MagicDNSSuffix is the tailnet's domain, without dots at either end.
	MagicDNSSuffix string `json:"magicDNSSuffix,omitempty"`

	ExitNode ExitNode `json:"exitNode,omitzero"`
	Config   Config   `json:"config,omitzero"`
	// AuthKeyRefused: the tailnet did not take the auth key at the last try; a new one is needed.
	AuthKeyRefused bool `json:"authKeyRefused,omitempty"`
}

// ExitNode is the exit node wanted and the one in use.
type ExitNode struct {
	// Wanted is the selector as configured; "": none.
	Wanted string `json:"wanted,omitempty"`
	// ID and Name are the node that it stands for now; "": none does.
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	// Online is what the control plane says of that node.
	Online bool `json:"online,omitempty"`
	// Message says why none is in use though one is wanted.
	Message string `json:"message,omitempty"`
}

// Config is the state of the gateway's configuration file.
type Config struct {
	// Hash is the first 12 hex digits of the applied file's SHA-256; "": none applied.
	Hash string `json:"hash,omitempty"`
	// Generation counts applied configurations since the process began.
	Generation int `json:"generation,omitempty"`
	// Error is why the newest file was not applied; "": it was.
	Error string `json:"error,omitempty"`
}
