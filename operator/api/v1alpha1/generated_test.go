package v1alpha1_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/test/kubetest"
)

var update = flag.Bool("update", false, "write testdata again")

const crds = "../../../deploy/crds"

// TestGenerated generates everything again, elsewhere, and compares.
func TestGenerated(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	directive := regexp.MustCompile(`(?m)^//go:generate go (.*) output:crd:dir=` + regexp.QuoteMeta(crds) + `$`).FindSubmatch(doc)
	if directive == nil {
		t.Fatal("doc.go has no go:generate line that writes " + crds)
	}
	dir := t.TempDir()
	args := append(strings.Fields(string(directive[1])), "output:crd:dir="+dir, "output:object:dir="+dir)
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	committed := files(t, crds)
	for name, content := range files(t, ".") {
		if strings.HasPrefix(name, "zz_generated") {
			committed[name] = content
		}
	}
	if diff := cmp.Diff(files(t, dir), committed); diff != "" {
		t.Errorf("go generate ./operator/api/... changes files (-generated +committed):\n%s", diff)
	}
}

// files returns the contents of the files in a folder, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string]string{}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		contents[entry.Name()] = string(content)
	}
	return contents
}

// TestExplain compares what kubectl explain says of a group's spec with a file that is read as documentation.
func TestExplain(t *testing.T) {
	env := kubetest.Shared(t)
	var out string
	// The server publishes the schema a moment after it serves the kind.
	err := wait.PollUntilContextTimeout(env.Context, 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		var err error
		out, err = env.Kubectl("", "explain", "eg.spec")
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("kubectl explain eg.spec: %v", err)
	}
	got := regexp.MustCompile(`(?m) +$`).ReplaceAll([]byte(strings.TrimSpace(out)+"\n"), nil)
	file := filepath.Join("testdata", "explain.txt")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("kubectl explain eg.spec (-want +got):\n%s", cmp.Diff(string(want), string(got)))
	}
}

// TestDescriptions wants a description of every field of ours, that begins with the field's name as users
// write it and keeps to the 76 columns that kubectl explain has, which breaks longer lines but joins none.
func TestDescriptions(t *testing.T) {
	for name, content := range files(t, crds) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict([]byte(content), crd); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, version := range crd.Spec.Versions {
			for _, part := range []string{"spec", "status"} {
				described(t, crd.Spec.Names.Singular+"."+part, part, version.Schema.OpenAPIV3Schema.Properties[part])
			}
		}
	}
}

func described(t *testing.T, path, name string, p apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if !strings.HasPrefix(p.Description, name+" ") {
		t.Errorf("the description of %s begins with %.30q, not its name", path, p.Description)
	}
	for line := range strings.Lines(p.Description) {
		if line = strings.TrimSpace(line); len(line) > 76 {
			t.Errorf("the description of %s has a line of %d characters: %s", path, len(line), line)
		}
	}
	if slices.Contains([]string{"conditions", "resources"}, name) {
		return // what is in them is Kubernetes' own
	}
	if p.Items != nil && p.Items.Schema != nil {
		p.Properties = p.Items.Schema.Properties
	}
	for child, schema := range p.Properties {
		described(t, path+"."+child, child, schema)
	}
}
