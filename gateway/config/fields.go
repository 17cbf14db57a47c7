package config

import (
	"reflect"
	"strings"

	"tailscale.com/ipn"
)

// field is a key of the format.
type field struct {
	// name is the key as the format spells it. Any case is taken, as by encoding/json.
	name string
	// goName is the field's name in [ipn.ConfigVAlpha].
	goName string
	// takes says which values, completing "NAME takes …".
	takes string
	// example is a value to write, as JSON.
	example string
	// check returns what is wrong with the value, as a sentence that begins behind
	// the name, once every key has decoded; "" for nothing. nil: every value of the
	// right type is good.
	check func(*checker) (Reason, string)
}

const (
	boolean   = "true or false"
	prefixes  = "a list of CIDRs"
	addrPorts = "a list of address:port pairs"
)

// fields is the whole format; a test fails when Tailscale adds a key to it.
var fields = []field{
	{"Version", "Version", `"alpha0"`, `"alpha0"`, nil},
	{"Locked", "Locked", boolean, "true", nil},
	{"ServerURL", "ServerURL", "an http or https URL", `"https://controlplane.tailscale.com"`, checkServerURL},
	{"AuthKey", "AuthKey", `an auth key, or "file:" and the path of a file that holds one`, `"file:/path/of/a/key"`, checkAuthKey},
	{"Enabled", "Enabled", boolean, "true", nil},
	{"OperatorUser", "OperatorUser", "a user name", `""`, refuse(
		func(f *ipn.ConfigVAlpha) bool { return deref(f.OperatorUser) != "" },
		"nobody logs in to a gateway, and its LocalAPI is root's; remove it")},
	{"Hostname", "Hostname", "a DNS label", `"gateway-1"`, checkHostname},
	{"acceptDNS", "AcceptDNS", boolean, "true", nil},
	{"acceptRoutes", "AcceptRoutes", boolean, "true", nil},
	{"exitNode", "ExitNode", `a tailnet IP, StableNodeID, MagicDNS name or "auto:any"`, `"exit.example.ts.net"`, checkExitNode},
	{"allowLANWhileUsingExitNode", "AllowLANWhileUsingExitNode", boolean, "false", nil},
	{"AdvertiseRoutes", "AdvertiseRoutes", prefixes, "[]", checkAdvertiseRoutes},
	{"AdvertiseExitNode", "AdvertiseExitNode", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.AdvertiseExitNode.EqualBool(true) },
		"a gateway carries pods out to the tailnet and lets nothing in; run a Tailscale exit node instead (the Tailscale operator's Connector is one) and remove it")},
	{"DisableSNAT", "DisableSNAT", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.DisableSNAT.EqualBool(true) },
		"the tailnet knows no address of a pod, so a gateway always masquerades; write false or remove it")},
	{"AdvertiseServices", "AdvertiseServices", "a list of service names", "[]", refuse(
		func(f *ipn.ConfigVAlpha) bool { return len(f.AdvertiseServices) > 0 },
		"a gateway carries pods out to the tailnet and lets nothing in; run the Tailscale operator's ingress ProxyGroup instead and remove it")},
	{"AppConnector", "AppConnector", "an object with the key advertise", `{"advertise": false}`, refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.AppConnector != nil && f.AppConnector.Advertise },
		"a gateway carries pods out to the tailnet and lets nothing in; run a Tailscale app connector instead and write false or remove it")},
	{"NetfilterMode", "NetfilterMode", `"off"`, `"off"`, refuse(
		func(f *ipn.ConfigVAlpha) bool { m := deref(f.NetfilterMode); return m != "" && m != "off" },
		`a gateway programs nftables itself, so the engine must not; write "off" or remove it`)},
	{"NoStatefulFiltering", "NoStatefulFiltering", boolean, "true", nil},
	{"PostureChecking", "PostureChecking", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.PostureChecking.EqualBool(true) },
		"a gateway's own posture says nothing of the pods behind it; write false or remove it")},
	{"RunSSHServer", "RunSSHServer", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.RunSSHServer.EqualBool(true) },
		"a gateway has no shell to offer; write false or remove it")},
	{"RunWebClient", "RunWebClient", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.RunWebClient.EqualBool(true) },
		"a gateway is changed by this file only; write false or remove it")},
	{"ShieldsUp", "ShieldsUp", boolean, "false", nil},
	{"RemoteConfig", "RemoteConfig", boolean, "false", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.RemoteConfig.EqualBool(true) },
		"a gateway is changed by this file only; write false or remove it")},
	{"AutoUpdate", "AutoUpdate", "an object with the keys Check and Apply", `{"Check": false, "Apply": false}`, refuse(
		func(f *ipn.ConfigVAlpha) bool {
			return f.AutoUpdate != nil && (f.AutoUpdate.Check || f.AutoUpdate.Apply.EqualBool(true))
		},
		"a gateway is updated by replacing its image; write false for Check and Apply, or remove it")},
	{"ServeConfigTemp", "ServeConfigTemp", "an object that is a serve config", "{}", refuse(
		func(f *ipn.ConfigVAlpha) bool {
			return f.ServeConfigTemp != nil && !reflect.ValueOf(*f.ServeConfigTemp).IsZero()
		},
		"a gateway serves nothing to the tailnet; run the Tailscale operator's ingress instead and remove it")},
	{"StaticEndpoints", "StaticEndpoints", addrPorts, `["198.51.100.1:41641"]`, checkStaticEndpoints},
	{"RelayServerPort", "RelayServerPort", "a port from 0 to 65535", "null", refuse(
		func(f *ipn.ConfigVAlpha) bool { return f.RelayServerPort != nil },
		"a gateway relays for nobody but its members; run a Tailscale peer relay instead and remove it")},
	{"RelayServerStaticEndpoints", "RelayServerStaticEndpoints", addrPorts, "[]", refuse(
		func(f *ipn.ConfigVAlpha) bool { return len(f.RelayServerStaticEndpoints) > 0 },
		"a gateway relays for nobody but its members; run a Tailscale peer relay instead and remove it")},
}

// fieldNamed returns the field whose key is name, in any case.
func fieldNamed(name string) (field, bool) {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return f, true
		}
	}
	return field{}, false
}

func fieldNames() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// refuse returns the check of a key that an egress gateway does not honour: its
// harmless value passes, and when asked reports true, why says what to do instead.
func refuse(asked func(*ipn.ConfigVAlpha) bool, why string) func(*checker) (Reason, string) {
	return func(c *checker) (Reason, string) {
		if !asked(&c.parsed) {
			return "", ""
		}
		return Refused, "is refused: " + why
	}
}
