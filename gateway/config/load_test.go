package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"
	"tailscale.com/types/preftype"
)

// secret is an auth key that must show nowhere.
const secret = "hs-planted-0123456789"

// compare makes addresses comparable for cmp.
var compare = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var compareAddrPorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// write puts content into a file of its own and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustLoad loads content.
func mustLoad(t *testing.T, content string) *Config {
	t.Helper()
	c, err := Load(write(t, content))
	if err != nil {
		t.Fatalf("Load(%s): %v", content, err)
	}
	return c
}

// defaults are the preferences of a file that sets nothing.
func defaults() ipn.Prefs {
	return ipn.Prefs{
		ControlURL:          "https://controlplane.tailscale.com",
		WantRunning:         true,
		CorpDNS:             true,
		RouteAll:            true,
		NoStatefulFiltering: opt.True,
		NetfilterMode:       preftype.NetfilterOff,
		AutoUpdate:          ipn.AutoUpdatePrefs{Apply: opt.False},
	}
}

func TestLoadDefaults(t *testing.T) {
	for name, content := range map[string]string{
		"only version": `{"Version": "alpha0"}`,
		"any case":     `{"version": "alpha0"}`,
		"HuJSON":       "// a comment\n{\"Version\": \"alpha0\", /* and */ }\n",
		"nulls": `{"Version":"alpha0","Locked":null,"ServerURL":null,"AuthKey":null,"Enabled":null,"OperatorUser":null,"Hostname":null,
			"acceptDNS":null,"acceptRoutes":null,"exitNode":null,"allowLANWhileUsingExitNode":null,"AdvertiseRoutes":null,
			"AdvertiseExitNode":null,"DisableSNAT":null,"AdvertiseServices":null,"AppConnector":null,"NetfilterMode":null,
			"NoStatefulFiltering":null,"PostureChecking":null,"RunSSHServer":null,"RunWebClient":null,"ShieldsUp":null,
			"RemoteConfig":null,"AutoUpdate":null,"ServeConfigTemp":null,"StaticEndpoints":null,"RelayServerPort":null,
			"RelayServerStaticEndpoints":null}`,
		"harmless": `{"Version":"alpha0","OperatorUser":"","AdvertiseRoutes":[],"AdvertiseExitNode":false,"DisableSNAT":false,
			"AdvertiseServices":[],"AppConnector":{"advertise":false},"NetfilterMode":"off","PostureChecking":false,
			"RunSSHServer":false,"RunWebClient":false,"RemoteConfig":false,"AutoUpdate":{"Check":false,"Apply":false},
			"ServeConfigTemp":{},"StaticEndpoints":[],"RelayServerStaticEndpoints":[],"Hostname":"","ServerURL":"","AuthKey":" ","exitNode":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, content)
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			want := &Config{
				Hash: got.Hash, LoadedFrom: path, Locked: true,
				ServerURL: "https://controlplane.tailscale.com",
				Prefs:     got.Prefs,
			}
			want.Prefs.Prefs = defaults()
			if diff := diffConfigs(want, got); diff != "" {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadEveryAppliedKey(t *testing.T) {
	got := mustLoad(t, `{
		"Version": "alpha0",
		"Locked": false,
		"ServerURL": "http://control.example:8080",
		"AuthKey": "file:/run/key",
		"Enabled": false,
		"Hostname": "gateway-1",
		"acceptDNS": false,
		"acceptRoutes": false,
		"exitNode": "100.64.0.9",
		"allowLANWhileUsingExitNode": true,
		"ShieldsUp": true,
		"StaticEndpoints": ["198.51.100.1:41641", "[2001:db8::1]:41641"],
		"PostureChecking": false,
		"NoStatefulFiltering": false,
	}`)
	want := &Config{
		Hash: got.Hash, LoadedFrom: got.LoadedFrom,
		ServerURL:       "http://control.example:8080",
		AuthKey:         "file:/run/key",
		Prefs:           got.Prefs, // the Set bits have a test of their own
		ExitNode:        ExitNode{Kind: ExitIP, Text: "100.64.0.9", IP: netip.MustParseAddr("100.64.0.9")},
		StaticEndpoints: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:41641"), netip.MustParseAddrPort("[2001:db8::1]:41641")},
	}
	want.Prefs.Prefs = ipn.Prefs{
		ControlURL:             "http://control.example:8080",
		Hostname:               "gateway-1",
		ExitNodeAllowLANAccess: true,
		ShieldsUp:              true,
		NoStatefulFiltering:    opt.False,
		NetfilterMode:          preftype.NetfilterOff,
		AutoUpdate:             ipn.AutoUpdatePrefs{Apply: opt.False},
	}
	if diff := diffConfigs(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

// diffConfigs compares field by field: Config's own encoding hides the auth key.
func diffConfigs(want, got *Config) string {
	return cmp.Diff(want, got, compare, compareAddrPorts)
}

func TestLoadHash(t *testing.T) {
	a, b := mustLoad(t, `{"Version":"alpha0"}`), mustLoad(t, `{"Version":"alpha0"} `)
	// printf '{"Version":"alpha0"}' | sha256sum
	if want := "fab76428fc1c"; a.Hash != want {
		t.Errorf("Hash = %q, want %q", a.Hash, want)
	}
	if a.Hash == b.Hash {
		t.Error("one byte more gives the same hash")
	}
}

// TestPrefsSetEverything fails when Tailscale's format can set a preference that
// ours leave alone: then a key that disappears from the file would stay in force.
func TestPrefsSetEverything(t *testing.T) {
	full := ipn.ConfigVAlpha{Version: version}
	for field, v := range reflect.ValueOf(&full).Elem().Fields() {
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case reflect.String:
			if v.Type() == reflect.TypeFor[opt.Bool]() {
				v.Set(reflect.ValueOf(opt.True))
			}
		default:
			t.Fatalf("%s is of kind %v, which this test does not know", field.Name, v.Kind())
		}
	}
	full.NetfilterMode, full.AuthKey = new("on"), new("key")
	theirs, err := full.ToPrefs()
	if err != nil {
		t.Fatal(err)
	}
	ours := mustLoad(t, `{"Version":"alpha0"}`).Prefs
	want := setBits(reflect.ValueOf(theirs))
	want = slices.DeleteFunc(want, func(name string) bool { return name == "ExitNodeIDSet" || name == "ExitNodeIPSet" })
	if diff := cmp.Diff(want, setBits(reflect.ValueOf(ours))); diff != "" {
		t.Errorf("preferences set (-by the format +by us):\n%s", diff)
	}
}

// setBits returns the names of the true …Set fields, sorted.
func setBits(v reflect.Value) []string {
	var names []string
	for field, value := range v.Fields() {
		switch {
		case !strings.HasSuffix(field.Name, "Set"):
		case value.Kind() == reflect.Struct:
			for _, name := range setBits(value) {
				names = append(names, field.Name+"."+name)
			}
		case value.Bool():
			names = append(names, field.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestTableKnowsTheFormat fails when Tailscale adds, renames or removes a key.
func TestTableKnowsTheFormat(t *testing.T) {
	format, table := map[string]string{}, map[string]string{}
	for field := range reflect.TypeFor[ipn.ConfigVAlpha]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		format[name] = field.Name
	}
	for _, f := range fields {
		table[f.name] = f.goName
	}
	if diff := cmp.Diff(format, table); diff != "" {
		t.Errorf("keys (-ipn.ConfigVAlpha +table):\n%s", diff)
	}
}

// TestExamplesAreRight loads what each message tells the user to write.
func TestExamplesAreRight(t *testing.T) {
	for _, f := range fields {
		content := fmt.Sprintf(`{"Version": "alpha0", %q: %s}`, f.name, f.example)
		if f.name == "Version" {
			content = `{"Version": "alpha0"}`
		}
		if _, err := Load(write(t, content)); err != nil {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// TestLargestFile says that the limit itself is allowed.
func TestLargestFile(t *testing.T) {
	head := `{"Version": "alpha0"}`
	mustLoad(t, head+strings.Repeat(" ", maxSize-len(head)))
}

func TestNoSecretShows(t *testing.T) {
	c := mustLoad(t, `{"Version": "alpha0", "AuthKey": "`+secret+`"}`)
	if c.AuthKey != secret {
		t.Fatalf("AuthKey = %q", c.AuthKey)
	}
	redactedJSON, err := json.Marshal(c.Redacted())
	if err != nil {
		t.Fatal(err)
	}
	ownJSON, err := json.Marshal(map[string]any{"value": *c, "pointer": c})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("loaded", "pointer", c, "value", *c, "any", map[string]any{"config": c})
	}
	shown := map[string]string{
		"Redacted": string(redactedJSON),
		"JSON":     string(ownJSON),
		"slog":     log.String(),
		"String":   c.String(),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		shown[verb] = fmt.Sprintf(verb, c) + fmt.Sprintf(verb, *c) + fmt.Sprintf(verb, struct{ C *Config }{c}) + fmt.Sprintf(verb, struct{ C Config }{*c})
	}
	if want := "pointer.hash=" + c.Hash; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s: %s", want, log.String())
	}
	for how, text := range shown {
		if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
			t.Errorf("%s shows the auth key: %s", how, text)
		}
	}
	if !strings.Contains(shown["Redacted"], redacted) {
		t.Errorf("Redacted does not say that there is a key: %s", redactedJSON)
	}
	fromFile := mustLoad(t, `{"Version": "alpha0", "AuthKey": "file:/run/key"}`)
	if b, err := json.Marshal(fromFile); err != nil || !strings.Contains(string(b), `"AuthKey":"file:/run/key"`) {
		t.Errorf("the path of the key file is not shown: %s, %v", b, err)
	}
}
