package main

import (
	"crypto/x509"
	"encoding/pem"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const moduleDir = "../.."

// TestTable holds the table against the tree.
func TestTable(t *testing.T) {
	for _, img := range table {
		for _, b := range img.binaries {
			if _, err := b.tags(moduleDir); err != nil {
				t.Error(err)
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(moduleDir, b.folder, "main.go"), nil, parser.PackageClauseOnly)
			if err != nil {
				t.Errorf("binary %s: %v", b.name, err)
			} else if f.Name.Name != "main" {
				t.Errorf("binary %s: %s is package %s", b.name, b.folder, f.Name)
			}
		}
	}
}

// TestDockerfiles holds each Dockerfile against the table: what is made with Docker is the same image.
func TestDockerfiles(t *testing.T) {
	files, err := filepath.Glob("../docker/*.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, img := range table {
		file := "../docker/" + img.short() + ".Dockerfile"
		want = append(want, file)
		t.Run(img.short(), func(t *testing.T) { checkDockerfile(t, file, img) })
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("Dockerfiles (-want +got):\n%s", diff)
	}
}

func checkDockerfile(t *testing.T, file string, img image) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The last stage is the image.
	_, last, _ := strings.Cut(string(text), "\nFROM scratch\n")
	want := []string{"COPY --from=build /src/deploy/images/ca-certificates.crt " + rootsFile}
	for _, b := range img.binaries {
		want = append(want, "COPY --from=build /out/"+b.name+" /"+b.name)
	}
	want = append(want, "USER "+img.user, `ENTRYPOINT ["`+strings.Join(img.entrypoint(), `", "`)+`"]`)
	var got []string
	for line := range strings.Lines(last) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "LABEL ") {
			got = append(got, line)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the last stage (-want +got):\n%s", diff)
	}
	build := "go run ./deploy/images --binaries --only=" + img.short() + " "
	if !strings.Contains(string(text), build) {
		t.Errorf("it does not build with %q", build)
	}
	if !slices.Contains(strings.Split(string(text), "\n"), "LABEL org.opencontainers.image.source="+sourceURL) {
		t.Errorf("it has no label for its source")
	}
	if _, err := os.Stat(file + ".dockerignore"); err != nil {
		t.Error(err)
	}
}

// TestChartAsksForTheseImages: what is made by default is what the chart installs by default.
func TestChartAsksForTheseImages(t *testing.T) {
	type imageValues struct{ Repository, Tag, Digest string }
	var values struct {
		Image          imageValues
		Agent, Gateway struct{ Image imageValues }
	}
	if err := readYAML(filepath.Join(moduleDir, chartFolder, "values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	got := map[string]imageValues{
		"tailgate-agent": values.Agent.Image, "tailgate-gateway": values.Gateway.Image, "tailgate-operator": values.Image,
	}
	want := map[string]imageValues{}
	for _, img := range table {
		want[img.name] = imageValues{Repository: path.Join(defaultRepository, img.name)} // no tag: the chart's appVersion
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images of the chart's values (-want +got):\n%s", diff)
	}
	if version, err := chartAppVersion(moduleDir); err != nil || version == "" {
		t.Errorf("the chart's appVersion is %q (%v)", version, err)
	}
}

// TestRoots reads the certificates as Go does, and looks for the authorities of Tailscale's servers.
func TestRoots(t *testing.T) {
	found := map[string]bool{}
	count := 0
	for rest := roots; ; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !cert.IsCA {
			t.Errorf("%s is no authority", cert.Subject)
		}
		found[cert.Subject.CommonName] = true
	}
	if !x509.NewCertPool().AppendCertsFromPEM(roots) || count < 100 {
		t.Errorf("%d certificates, want more than 100", count)
	}
	for _, name := range []string{"ISRG Root X1", "ISRG Root X2", "Amazon Root CA 1", "GTS Root R1"} {
		if !found[name] {
			t.Errorf("%s is not among them", name)
		}
	}
}
