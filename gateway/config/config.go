package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"tailscale.com/ipn"
	"tailscale.com/types/opt"
	"tailscale.com/types/preftype"
)

// version is the only one of the format's versions that there is.
const version = "alpha0"

// Config is a file that was found good. However it is printed, logged or encoded,
// its auth key does not show.
type Config struct {
	// Hash is the first 12 hex digits of the SHA-256 of the file's bytes.
	Hash string
	// LoadedFrom is the file's absolute path.
	LoadedFrom string
	// Locked says that only the file may change preferences, not the LocalAPI.
	// True by default.
	Locked bool
	// ServerURL is the control plane's, never empty; also in Prefs.
	ServerURL string
	// AuthKey is as the file has it: a key, or "file:" and the path of a file that
	// holds one; "" for none. Use [Config.ReadAuthKey].
	AuthKey string
	// Prefs holds every preference that the format can set, each with its Set bit,
	// so that applying it undoes what an earlier file said. The exit node is not
	// among them (ExitNodeID, ExitNodeIP, AutoExitNode): those come from
	// [Resolution.Prefs].
	Prefs ipn.MaskedPrefs
	// ExitNode is the exit node that the file asks for; the zero value is none.
	ExitNode ExitNode
	// StaticEndpoints are what the node says of itself beyond what it finds out.
	// They are no preference: the engine takes them by magicsock's SetStaticEndpoints.
	StaticEndpoints []netip.AddrPort
}

// newConfig returns what a checked file means, defaults filled in.
func newConfig(f *ipn.ConfigVAlpha) *Config {
	serverURL := deref(f.ServerURL)
	if serverURL == "" {
		serverURL = ipn.DefaultControlURL
	}
	return &Config{
		Locked:          orDefault(f.Locked, true),
		ServerURL:       serverURL,
		AuthKey:         strings.TrimSpace(deref(f.AuthKey)),
		Prefs:           newPrefs(f, serverURL),
		ExitNode:        ParseExitNode(deref(f.ExitNode)),
		StaticEndpoints: append([]netip.AddrPort(nil), f.StaticEndpoints...),
	}
}

// newPrefs is [ipn.ConfigVAlpha.ToPrefs] for a file that is the whole truth: that
// function leaves alone what the file does not name. What we refuse is set to its
// harmless value, because the LocalAPI or an older state may have said otherwise.
func newPrefs(f *ipn.ConfigVAlpha, serverURL string) ipn.MaskedPrefs {
	return ipn.MaskedPrefs{
		Prefs: ipn.Prefs{
			ControlURL:             serverURL,
			WantRunning:            orDefault(f.Enabled, true),
			Hostname:               deref(f.Hostname),
			CorpDNS:                orDefault(f.AcceptDNS, true),
			RouteAll:               orDefault(f.AcceptRoutes, true),
			ExitNodeAllowLANAccess: orDefault(f.AllowLANWhileUsingExitNode, false),
			ShieldsUp:              orDefault(f.ShieldsUp, false),
			NoStatefulFiltering:    opt.NewBool(orDefault(f.NoStatefulFiltering, true)),
			NetfilterMode:          preftype.NetfilterOff,
			// Not unset: then the tailnet's default would hold.
			AutoUpdate: ipn.AutoUpdatePrefs{Check: false, Apply: opt.False},
		},
		ControlURLSet:                 true,
		WantRunningSet:                true,
		LoggedOutSet:                  true,
		OperatorUserSet:               true,
		HostnameSet:                   true,
		CorpDNSSet:                    true,
		RouteAllSet:                   true,
		ExitNodeAllowLANAccessSet:     true,
		AdvertiseRoutesSet:            true,
		AdvertiseServicesSet:          true,
		NoSNATSet:                     true,
		NoStatefulFilteringSet:        true,
		NetfilterModeSet:              true,
		PostureCheckingSet:            true,
		RunSSHSet:                     true,
		RunWebClientSet:               true,
		ShieldsUpSet:                  true,
		RemoteConfigSet:               true,
		AutoUpdateSet:                 ipn.AutoUpdatePrefsMask{CheckSet: true, ApplySet: true},
		AppConnectorSet:               true,
		RelayServerPortSet:            true,
		RelayServerStaticEndpointsSet: true,
	}
}

// file returns the configuration in the file's own format, every applied key
// written out. Loaded again, it gives the same configuration.
func (c Config) file() ipn.ConfigVAlpha {
	p := c.Prefs.Prefs
	return ipn.ConfigVAlpha{
		Version:                    version,
		Locked:                     opt.NewBool(c.Locked),
		ServerURL:                  new(c.ServerURL),
		AuthKey:                    new(c.AuthKey),
		Enabled:                    opt.NewBool(p.WantRunning),
		Hostname:                   new(p.Hostname),
		AcceptDNS:                  opt.NewBool(p.CorpDNS),
		AcceptRoutes:               opt.NewBool(p.RouteAll),
		ExitNode:                   new(c.ExitNode.String()),
		AllowLANWhileUsingExitNode: opt.NewBool(p.ExitNodeAllowLANAccess),
		NetfilterMode:              new(p.NetfilterMode.String()),
		NoStatefulFiltering:        p.NoStatefulFiltering,
		PostureChecking:            opt.NewBool(p.PostureChecking),
		ShieldsUp:                  opt.NewBool(p.ShieldsUp),
		StaticEndpoints:            c.StaticEndpoints,
	}
}

// Redacted returns the configuration in force for showing as JSON: where it came
// from, and the file's format with every applied key written out. The auth key is
// replaced unless it only names a file.
func (c Config) Redacted() any {
	f := c.file()
	if _, isFile := c.AuthKeyFile(); !isFile && c.AuthKey != "" {
		f.AuthKey = new(redacted)
	}
	return struct {
		Hash       string
		LoadedFrom string
		Config     ipn.ConfigVAlpha
	}{c.Hash, c.LoadedFrom, f}
}

// MarshalJSON encodes what [Config.Redacted] returns.
func (c Config) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(c.Redacted())
	if err != nil {
		return nil, fmt.Errorf("encode config %s: %w", c.Hash, err)
	}
	return b, nil
}

// String returns the configuration's hash and path.
func (c Config) String() string { return fmt.Sprintf("config %s from %s", c.Hash, c.LoadedFrom) }

// GoString is [Config.String], so that %#v shows no secret either.
func (c Config) GoString() string { return c.String() }

// LogValue is what slog prints.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("hash", c.Hash),
		slog.String("path", c.LoadedFrom),
		slog.String("server", c.ServerURL),
		slog.Bool("authKey", c.AuthKey != ""),
		slog.Bool("acceptRoutes", c.Prefs.RouteAll),
		slog.String("exitNode", c.ExitNode.String()),
	)
}

// deref returns the string that p points to, or "".
func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// orDefault returns b, or otherwise when b is unset.
func orDefault(b opt.Bool, otherwise bool) bool {
	if v, ok := b.Get(); ok {
		return v
	}
	return otherwise
}
