package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// openLayout returns the one index of a layout that has a name, and the other manifests.
func openLayout(t *testing.T, dir string) (v1.ImageIndex, []v1.Descriptor) {
	t.Helper()
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	named := m.Manifests[0]
	want := map[string]string{"org.opencontainers.image.ref.name": "1.2.3", "io.containerd.image.name": "registry.example/some/tailgate-hello:1.2.3"}
	if diff := cmp.Diff(want, named.Annotations); diff != "" {
		t.Errorf("annotations of the image in the layout (-want +got):\n%s", diff)
	}
	index, err := root.ImageIndex(named.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index, m.Manifests[1:]
}

// TestImage makes an image for two platforms and reads back everything that was written.
func TestImage(t *testing.T) {
	out := t.TempDir()
	printed := makeHello(t, writeTree(t), out, amd64, arm64)
	base := filepath.Join(out, "tailgate-hello")

	index, sboms := openLayout(t, base)
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	line := "registry.example/some/tailgate-hello:1.2.3@" + digest.String() + "\n"
	if !strings.HasPrefix(printed, line) {
		t.Errorf("printed %q, want first %q", printed, line)
	}
	if got, err := os.ReadFile(base + ".digest"); err != nil || string(got) != line {
		t.Errorf("the digest's file holds %q (%v), want %q", got, err, line)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	checkAnnotations(t, "the index", m.Annotations)
	if len(m.Manifests) != 2 || len(sboms) != 2 {
		t.Fatalf("%d images and %d SBOMs, want 2 of each", len(m.Manifests), len(sboms))
	}
	for i, p := range []v1.Platform{amd64, arm64} {
		d := m.Manifests[i]
		want := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: d.Size, Digest: d.Digest, Platform: &p}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("the index's entry (-want +got):\n%s", diff)
		}
		img, err := index.Image(m.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkConfig(t, img, p)
		checkDockerArchive(t, base+"-linux-"+p.Architecture+".tar", img)
		checkSBOM(t, base, sboms[i], m.Manifests[i], base+"-linux-"+p.Architecture+".spdx.json")
	}

	archived, others := openLayout(t, unpack(t, base+".tar"))
	if err := validate.Index(archived); err != nil {
		t.Error(err)
	}
	if got, err := archived.Digest(); err != nil || got != digest {
		t.Errorf("the archive holds %v (%v), want %v", got, err, digest)
	}
	if len(others) > 0 {
		t.Errorf("the archive holds %v beside the image", others)
	}
}

func checkAnnotations(t *testing.T, of string, got map[string]string) {
	t.Helper()
	want := helloLabels()
	want["org.opencontainers.image.created"] = "2026-01-01T00:00:00Z"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annotations of %s (-want +got):\n%s", of, diff)
	}
}

func helloLabels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "tailgate-hello",
		"org.opencontainers.image.description": "Says hello",
		"org.opencontainers.image.source":      "https://github.com/rajsinghtech/tailgate",
		"org.opencontainers.image.version":     "v1.2.3-test",
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

func checkConfig(t *testing.T, img v1.Image, p v1.Platform) {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	checkAnnotations(t, "the image", m.Annotations)
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	created := v1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	want := &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Created: created,
		Config:  v1.Config{Entrypoint: []string{"/tailgate-hello"}, User: "65532:65533", WorkingDir: "/", Labels: helloLabels()},
		History: []v1.History{{Created: created, CreatedBy: "go run ./deploy/images", Comment: "Says hello"}},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: c.RootFS.DiffIDs},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("configuration for %v (-want +got):\n%s", p, diff)
	}
	checkFiles(t, img)
}

// checkFiles compares what the image's one layer holds.
func checkFiles(t *testing.T, img v1.Image) {
	t.Helper()
	var got []string
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1767225600 {
			t.Errorf("%s is of %d:%d, %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+strings.TrimSuffix(h.Name, "/"))
	}
	want := []string{
		"drwxr-xr-x etc", "drwxr-xr-x etc/ssl", "drwxr-xr-x etc/ssl/certs",
		"-rw-r--r-- etc/ssl/certs/ca-certificates.crt", "-rwxr-xr-x tailgate-hello",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func checkDockerArchive(t *testing.T, file string, want v1.Image) {
	t.Helper()
	tag := name.MustParseReference("registry.example/some/tailgate-hello:1.2.3").(name.Tag)
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	got, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if w, err := want.ConfigName(); err != nil || got != w {
		t.Errorf("%s holds the image %v, want %v (%v)", file, got, w, err)
	}
}

// checkSBOM follows an artifact of the layout to the SBOM, which must be the one beside it.
func checkSBOM(t *testing.T, dir string, artifact, of v1.Descriptor, file string) {
	t.Helper()
	l := layout.Path(dir)
	data, err := l.Bytes(artifact.Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject == nil || m.Subject.Digest != of.Digest || m.ArtifactType != spdxType || artifact.ArtifactType != spdxType {
		t.Errorf("the artifact %+v refers to %v, want %v", m, m.Subject, of.Digest)
	}
	if config, err := l.Bytes(m.Config.Digest); err != nil || string(config) != "{}" {
		t.Errorf("the artifact's configuration is %q (%v), want {}", config, err)
	}
	got, err := l.Bytes(m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) || !json.Valid(want) {
		t.Errorf("%s is not the SBOM that is attached", file)
	}
}

// unpack writes what an archive holds to a new folder.
func unpack(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return unpackStream(t, f)
}

func unpackStream(t *testing.T, r io.Reader) string {
	t.Helper()
	files := fstest.MapFS{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(h.Name, "/")] = &fstest.MapFile{Data: data, Mode: h.FileInfo().Mode()}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	// CopyFS makes every file writable and readable, and keeps who may run it.
	return dir
}

// TestRunsOnScratch runs the entrypoint with nothing around it but the image.
func TestRunsOnScratch(t *testing.T) {
	out := t.TempDir()
	makeHello(t, writeTree(t), out, local)
	index, _ := openLayout(t, filepath.Join(out, "tailgate-hello"))
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	r := mutate.Extract(img)
	defer r.Close()
	root := unpackStream(t, r)
	if err := os.Chmod(root, fs.FileMode(0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/tailgate-hello")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65533}}
	got, err := cmd.CombinedOutput()
	if want := "v1.2.3-test tagged 65532 65533 true\n"; err != nil || string(got) != want {
		t.Errorf("it prints %q (%v), want %q", got, err, want)
	}
}
