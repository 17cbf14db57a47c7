package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ownSBOM is the SBOM of an image that holds this test, twice: it is a Go binary with modules, as tailgate's.
func ownSBOM(t *testing.T) (spdxDocument, *buildinfo.BuildInfo) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	s := source{version: "v1+test", time: time.Unix(0, 0).UTC()}
	text, err := newSBOM(hello, s, "linux/amd64", []file{
		{name: rootsFile, data: roots}, {name: "/one", data: data}, {name: "/two", data: data},
	})
	if err != nil {
		t.Fatal(err)
	}
	var d spdxDocument
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d, info
}

// TestSBOM compares an SBOM with what the Go linker wrote into the binary.
func TestSBOM(t *testing.T) {
	d, info := ownSBOM(t)
	if len(info.Deps) == 0 {
		t.Fatal("this test is built of no modules, so it can show nothing")
	}
	want := []string{
		"CONTAINER tailgate-hello v1+test ",
		"FILE root certificates of Mozilla " + bundleVersion(t) + " ",
		"APPLICATION one v1+test pkg:golang/github.com/rajsinghtech/tailgate@v1%2Btest",
		"LIBRARY stdlib " + strings.TrimPrefix(info.GoVersion, "go") + " pkg:golang/stdlib@" + strings.TrimPrefix(info.GoVersion, "go"),
	}
	for _, m := range info.Deps {
		want = append(want, "LIBRARY "+m.Path+" "+m.Version+" pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version+" go.sum "+m.Sum)
	}
	want = append(want, "APPLICATION two v1+test pkg:golang/github.com/rajsinghtech/tailgate@v1%2Btest")
	var got []string
	for _, p := range d.Packages {
		line := p.Purpose + " " + p.Name + " " + p.Version + " "
		if len(p.Refs) > 0 && p.ID != rootsID {
			line += p.Refs[0].Locator
		}
		if strings.HasPrefix(p.SourceInfo, "go.sum") {
			line += " " + p.SourceInfo
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func bundleVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`# From golang\.org/x/crypto/x509roots/fallback (v\S+)`).FindSubmatch(roots)
	if m == nil {
		t.Fatal("the certificates do not say where they are from")
	}
	return string(m[1])
}

// TestSBOMIsSPDX checks what the specification demands of every document.
func TestSBOMIsSPDX(t *testing.T) {
	d, _ := ownSBOM(t)
	identifier := regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`)
	ids := []string{d.ID}
	for _, p := range d.Packages {
		if !identifier.MatchString(p.ID) || slices.Contains(ids, p.ID) {
			t.Errorf("identifier %q is not valid, or taken", p.ID)
		}
		ids = append(ids, p.ID)
		if p.Name == "" || p.DownloadLocation == "" {
			t.Errorf("package %+v lacks what is required", p)
		}
	}
	from := map[string]int{}
	for _, r := range d.Relationships {
		if !slices.Contains(ids, r.From) || !slices.Contains(ids, r.To) {
			t.Errorf("%+v relates what is not there", r)
		}
		from[r.From+" "+r.Type]++
	}
	one := spdxID("Binary", "one")
	modules := len(d.Packages) - 4 // the image, its certificates and two binaries; the standard library counts
	want := map[string]int{"SPDXRef-DOCUMENT DESCRIBES": 1, "SPDXRef-Image CONTAINS": 3, one + " DEPENDS_ON": modules, spdxID("Binary", "two") + " DEPENDS_ON": modules}
	if diff := cmp.Diff(want, from); diff != "" {
		t.Errorf("relationships (-want +got):\n%s", diff)
	}
	if _, err := time.Parse(time.RFC3339, d.Creation.Created); err != nil || !strings.HasSuffix(d.Creation.Created, "Z") {
		t.Errorf("created %q: %v", d.Creation.Created, err)
	}
	if !strings.HasPrefix(d.DocumentNamespace, "https://") || strings.Contains(d.DocumentNamespace, "#") {
		t.Errorf("namespace %q", d.DocumentNamespace)
	}
}
