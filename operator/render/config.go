package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// defaultLoginServer is Tailscale's control plane (ipn.DefaultControlURL).
const defaultLoginServer = "https://controlplane.tailscale.com"

// configFile is Tailscale's configuration format "alpha0" (ipn.ConfigVAlpha), its keys in that order.
// Nothing is left out when empty: a reader other than our gateway, such as tailscaled itself, takes a
// missing key for "as before", and the file has to undo what an earlier one said.
type configFile struct {
	Version string
	Locked  bool

	ServerURL string
	AuthKey   string
	Enabled   bool

	OperatorUser string
	Hostname     string

	AcceptDNS    bool `json:"acceptDNS"`
	AcceptRoutes bool `json:"acceptRoutes"`

	ExitNode                   string `json:"exitNode"`
	AllowLANWhileUsingExitNode bool   `json:"allowLANWhileUsingExitNode"`

	AdvertiseRoutes   []string
	AdvertiseExitNode bool
	DisableSNAT       bool

	AdvertiseServices []string

	AppConnector appConnector

	NetfilterMode       string
	NoStatefulFiltering bool

	PostureChecking bool
	RunSSHServer    bool
	RunWebClient    bool
	ShieldsUp       bool
	RemoteConfig    bool
	AutoUpdate      autoUpdate
	ServeConfigTemp struct{}

	StaticEndpoints []string

	// RelayServerPort is null, which is the format's word for no relay: 0 would be one on any port.
	RelayServerPort            *uint16
	RelayServerStaticEndpoints []string
}

// appConnector is ipn.AppConnectorPrefs.
type appConnector struct {
	Advertise bool
}

// autoUpdate is ipn.AutoUpdatePrefs.
type autoUpdate struct {
	Check bool
	Apply bool
}

// Config returns the configuration file of a group's gateways, as JSON with every key that Tailscale's
// format "alpha0" has, and its hash: the first 12 hex digits of its SHA-256, which a gateway that
// applied it reports (snapshot.Config.Hash).
//
// It is the same on every node, so it names no Hostname: that comes from the gateway's --hostname. The
// auth key is not in it, only the path where the group's Secret is mounted.
func Config(g *v1alpha1.EgressGroup, o Options) (data []byte, hash string, err error) {
	f := configFile{
		Version:      "alpha0",
		Locked:       true,
		ServerURL:    o.LoginServer,
		AuthKey:      "file:" + authKeyFolder + "/" + AuthKeyKey,
		Enabled:      true,
		AcceptDNS:    true, // its resolver serves those members that ask it, whatever spec.dns says of the others
		AcceptRoutes: orDefault(g.Spec.AcceptRoutes, true),
		// Empty, not null: [] says that there are none.
		AdvertiseRoutes: []string{}, AdvertiseServices: []string{},
		StaticEndpoints: []string{}, RelayServerStaticEndpoints: []string{},
		NetfilterMode:       "off", // the gateway programs nftables itself
		NoStatefulFiltering: true,
	}
	if f.ServerURL == "" {
		f.ServerURL = defaultLoginServer
	}
	if e := g.Spec.ExitNode; e != nil {
		f.ExitNode, f.AllowLANWhileUsingExitNode = e.NodeID, e.AllowLANAccess
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a person reads it
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		return nil, "", fmt.Errorf("render configuration of EgressGroup %s: %w", g.Name, err)
	}
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(sum[:])[:12], nil
}

// orDefault returns what p points to, or otherwise.
func orDefault[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
