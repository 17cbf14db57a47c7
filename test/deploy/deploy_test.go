package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// TestArguments: what cannot be is refused with a sentence that says what to write.
func TestArguments(t *testing.T) {
	for _, tt := range []struct{ args, env, want string }{
		{args: "now", want: `"now" is no flag; see --help`},
		{args: "--kubeconfig=x --lab=y", want: "--kubeconfig and --lab are two clusters; name one"},
		{args: "--tag=1", want: "--repository and --tag are for --kubeconfig: into kind and labs, images are loaded as they are built"},
		{args: "--cluster-cidrs=10.1.0.0/8", want: `invalid value "10.1.0.0/8" for flag -cluster-cidrs: "10.1.0.0/8" is no CIDR, such as 10.244.0.0/16`},
		{env: "TS_OAUTH_CLIENT_ID=k1", want: "$TS_OAUTH_CLIENT_ID is set without $TS_OAUTH_CLIENT_SECRET; set both for a real tailnet, neither for a hermetic one"},
		{env: "TS_OAUTH_CLIENT_SECRET=s", want: "$TS_OAUTH_CLIENT_SECRET is set without $TS_OAUTH_CLIENT_ID; set both for a real tailnet, neither for a hermetic one"},
	} {
		t.Run(tt.args+tt.env, func(t *testing.T) {
			setCredentials(t, strings.Fields(tt.env)...)
			if _, err := parse(strings.Fields(tt.args), io.Discard); fmt.Sprint(err) != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

// setCredentials sets these variables and no others of the three.
func setCredentials(t *testing.T, env ...string) {
	t.Helper()
	for _, v := range append([]string{tailnetVar + "=", idVar + "=", secretVar + "="}, env...) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

// TestCredentials: a tailnet that is not named is the client's own.
func TestCredentials(t *testing.T) {
	for _, tt := range []struct {
		env  string
		want credentials
	}{
		{"TS_TAILNET=example.com", credentials{}},
		{"TS_OAUTH_CLIENT_ID=k1 TS_OAUTH_CLIENT_SECRET=s", credentials{"-", "k1", "s"}},
		{"TS_TAILNET=example.com TS_OAUTH_CLIENT_ID=k1 TS_OAUTH_CLIENT_SECRET=s", credentials{"example.com", "k1", "s"}},
	} {
		setCredentials(t, strings.Fields(tt.env)...)
		if s, err := parse(nil, io.Discard); err != nil || s.real != tt.want {
			t.Errorf("with %s: %+v, %v, want %+v", tt.env, s.real, err, tt.want)
		}
	}
}

// TestChartHasTheseImages holds what is known of the chart's values against it.
func TestChartHasTheseImages(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, chartFolder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var chart map[string]any
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	collect(chart, found)
	want := map[string]bool{}
	for name := range values {
		want[defaultRepository+"/"+name] = true
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("images of the chart's values (-want +got):\n%s", diff)
	}
	i, err := published(root, defaultRepository, "1")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	if err := i.put(got); err != nil {
		t.Fatal(err)
	}
	wantValues := map[string]any{}
	for name, at := range map[string]func(any){
		"tailgate-operator": func(v any) { wantValues["image"] = v },
		"tailgate-gateway":  func(v any) { wantValues["gateway"] = map[string]any{"image": v} },
		"tailgate-agent":    func(v any) { wantValues["agent"] = map[string]any{"image": v} },
	} {
		at(map[string]any{"repository": defaultRepository + "/" + name, "tag": "1", "pullPolicy": "IfNotPresent"})
	}
	if diff := cmp.Diff(wantValues, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	i.all["tailgate-new"] = image{"r", "1"}
	if err := i.put(got); err == nil || !strings.Contains(err.Error(), "tailgate-new") {
		t.Errorf("an image that the chart does not have: %v", err)
	}
}

// collect finds the repositories of all images in values.
func collect(values map[string]any, into map[string]bool) {
	for key, v := range values {
		switch v := v.(type) {
		case map[string]any:
			collect(v, into)
		case string:
			if key == "repository" {
				into[v] = true
			}
		}
	}
}

// TestDigests reads what deploy/images writes.
func TestDigests(t *testing.T) {
	dir := t.TempDir()
	if _, err := readDigests(dir); err == nil {
		t.Error("a folder without images is good")
	}
	text := "localhost/tailgate/tailgate-agent:0123456789ab@sha256:0123456789ab\n"
	if err := os.WriteFile(filepath.Join(dir, "tailgate-agent.digest"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readDigests(dir)
	if want := "localhost/tailgate/tailgate-agent:0123456789ab"; err != nil || got.all["tailgate-agent"].String() != want || got.pullPolicy != "Never" {
		t.Errorf("got %+v, %v, want %s, never pulled", got, err, want)
	}
}

// TestExampleTags: the operator may give gateways the tags of the examples.
func TestExampleTags(t *testing.T) {
	tags, err := exampleTags(root)
	if diff := cmp.Diff([]string{"tag:egress-payments", "tag:egress-peers"}, tags); diff != "" || err != nil {
		t.Errorf("%v, tags (-want +got):\n%s", err, diff)
	}
}

// manifestOf is the tailnet's for one address.
func manifestOf(t *testing.T, addr string) []byte {
	t.Helper()
	text, err := render(manifest{
		Image: "localhost/tailgate/tailgate-tailnet:0123456789ab", PullPolicy: "Never", Domain: domain,
		Address: netip.MustParseAddr(addr), Tags: []string{"tag:egress-payments", "tag:egress-peers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
