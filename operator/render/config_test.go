package render_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/quick"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/ipn"
	"tailscale.com/ipn/conffile"
	"tailscale.com/types/opt"
	"tailscale.com/types/preftype"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// load renders g and has Tailscale's own loader read it.
func load(t *testing.T, g *v1alpha1.EgressGroup, o render.Options) *conffile.Config {
	t.Helper()
	data, hash, err := render.Config(g, o)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:])[:12] != hash {
		t.Errorf("hash %s of what has the SHA-256 %x", hash, sum)
	}
	path := filepath.Join(t.TempDir(), render.ConfigKey)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := conffile.Load(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return c
}

// wantFile is the file that g asks for, in Tailscale's own type.
func wantFile(g *v1alpha1.EgressGroup, o render.Options) ipn.ConfigVAlpha {
	want := ipn.ConfigVAlpha{
		Version: "alpha0", Locked: "true", ServerURL: new("https://controlplane.tailscale.com"),
		AuthKey: new("file:/etc/tailgate/auth/authkey"), Enabled: "true", OperatorUser: new(""), Hostname: new(""),
		AcceptDNS: "true", AcceptRoutes: "true", ExitNode: new(""), AllowLANWhileUsingExitNode: "false",
		AdvertiseRoutes: []netip.Prefix{}, AdvertiseExitNode: "false", DisableSNAT: "false", AdvertiseServices: []string{},
		AppConnector: &ipn.AppConnectorPrefs{}, NetfilterMode: new("off"), NoStatefulFiltering: "true", PostureChecking: "false",
		RunSSHServer: "false", RunWebClient: "false", ShieldsUp: "false", RemoteConfig: "false",
		AutoUpdate: &ipn.AutoUpdatePrefs{Apply: "false"}, ServeConfigTemp: &ipn.ServeConfig{},
		StaticEndpoints: []netip.AddrPort{}, RelayServerStaticEndpoints: []netip.AddrPort{},
	}
	if o.LoginServer != "" {
		want.ServerURL = &o.LoginServer
	}
	if a := g.Spec.AcceptRoutes; a != nil {
		want.AcceptRoutes = opt.NewBool(*a)
	}
	if e := g.Spec.ExitNode; e != nil {
		want.ExitNode, want.AllowLANWhileUsingExitNode = &e.NodeID, opt.NewBool(e.AllowLANAccess)
	}
	return want
}

// checkFile renders g and compares what Tailscale reads of it.
func checkFile(t *testing.T, g *v1alpha1.EgressGroup, o render.Options) {
	t.Helper()
	c := load(t, g, o)
	if diff := cmp.Diff(wantFile(g, o), c.Parsed); diff != "" {
		t.Errorf("as Tailscale reads it (-want +got):\n%s\n%s", diff, c.Raw)
	}
	if _, err := c.Parsed.ToPrefs(); err != nil {
		t.Errorf("%v\n%s", err, c.Raw)
	}
}

// TestRenderGatewayConfigRoundTrips renders generated specs, loads them with Tailscale's own
// conffile.Load and compares.
func TestRenderGatewayConfigRoundTrips(t *testing.T) {
	err := quick.Check(func(spec randomSpec, server bool) bool {
		g, o := spec.group(), render.Options{}
		if server {
			o.LoginServer = "http://10.0.0.1:8080"
		}
		checkFile(t, g, o)
		return !t.Failed()
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

// randomSpec is what of a spec could have a say in the file.
type randomSpec struct {
	AcceptRoutes, MagicDNS *bool
	ExitNode               *string
	LAN, Subnet            bool
	Tags, Routes           []string
}

func (r randomSpec) group() *v1alpha1.EgressGroup {
	g := group("payments")
	g.Spec.AcceptRoutes, g.Spec.Tags, g.Spec.Routes = r.AcceptRoutes, r.Tags, r.Routes
	if r.Subnet {
		g.Spec.Mode = v1alpha1.ModeSubnet
	}
	if r.MagicDNS != nil {
		g.Spec.DNS = &v1alpha1.DNS{MagicDNS: *r.MagicDNS}
	}
	if r.ExitNode != nil {
		g.Spec.ExitNode = &v1alpha1.ExitNode{NodeID: *r.ExitNode, AllowLANAccess: r.LAN}
	}
	return g
}

// TestConfigQuotes what admission would not let through: no text can become a key of its own.
func TestConfigQuotes(t *testing.T) {
	for _, text := range []string{"auto:any", `", "ShieldsUp": true, "x": "`, "// no comment", "/* nor */", "\u2028 <&> \x00\n\\", "ä"} {
		checkFile(t, randomSpec{ExitNode: &text}.group(), render.Options{LoginServer: text})
	}
}

// TestEveryKeyIsWritten: a key that Tailscale adds to the format is one that we have to write.
func TestEveryKeyIsWritten(t *testing.T) {
	data, _, err := render.Config(group("payments"), render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var written map[string]json.RawMessage
	if err := json.Unmarshal(data, &written); err != nil {
		t.Fatal(err)
	}
	compare(t, "", reflect.TypeFor[ipn.ConfigVAlpha](), written)
	for key, in := range map[string]reflect.Type{"AppConnector": reflect.TypeFor[ipn.AppConnectorPrefs](), "AutoUpdate": reflect.TypeFor[ipn.AutoUpdatePrefs]()} {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(written[key], &object); err != nil {
			t.Fatal(err)
		}
		compare(t, key+".", in, object)
	}
	for key, value := range written {
		// A port that is 0 would be a relay on any port: the format has no other word for none.
		if string(value) == "null" && key != "RelayServerPort" {
			t.Errorf("%s is null, which is as if it were missing", key)
		}
	}
}

// compare wants the keys of a struct of Tailscale's, spelled as there.
func compare(t *testing.T, prefix string, in reflect.Type, written map[string]json.RawMessage) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for i := range in.NumField() {
		name, _, _ := strings.Cut(in.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = in.Field(i).Name
		}
		want[prefix+name] = true
	}
	for name := range written {
		got[prefix+name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-Tailscale's +written):\n%s", diff)
	}
}

// TestConfigUndoes applies one file after another as tailscaled does, which leaves alone what
// a file does not say: nothing of the first may stay.
func TestConfigUndoes(t *testing.T) {
	prefs := ipn.NewPrefs()
	prefs.Hostname, prefs.OperatorUser, prefs.ShieldsUp, prefs.RunSSH, prefs.NoSNAT = "old", "me", true, true, true
	prefs.AdvertiseRoutes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	prefs.NetfilterMode, prefs.PostureChecking = preftype.NetfilterOn, true
	apply := func(g *v1alpha1.EgressGroup) {
		t.Helper()
		mp, err := load(t, g, render.Options{}).Parsed.ToPrefs()
		if err != nil {
			t.Fatal(err)
		}
		prefs.ApplyEdits(&mp)
	}
	g := group("payments")
	apply(g)
	plain := prefs.Clone()
	if plain.Hostname+plain.OperatorUser != "" || plain.ShieldsUp || plain.RunSSH || plain.NoSNAT || len(plain.AdvertiseRoutes) > 0 ||
		plain.NetfilterMode != preftype.NetfilterOff || plain.PostureChecking || !plain.RouteAll || !plain.WantRunning {
		t.Errorf("something of before is left: %v", plain.Pretty())
	}
	g.Spec.AcceptRoutes = new(false)
	g.Spec.ExitNode = &v1alpha1.ExitNode{NodeID: "nExitCNTRL", AllowLANAccess: true}
	apply(g)
	if prefs.RouteAll || prefs.ExitNodeID != "nExitCNTRL" || !prefs.ExitNodeAllowLANAccess {
		t.Errorf("the change is not there: %v", prefs.Pretty())
	}
	apply(group("payments"))
	if !prefs.Equals(plain) {
		t.Errorf("taken back, the preferences are\n%v\nbefore they were\n%v", prefs.Pretty(), plain.Pretty())
	}
}
