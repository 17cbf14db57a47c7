package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// tree is a module as small as one can be that has what the builder looks for. Its program says how it was built.
var tree = map[string]string{
	"go.mod":                   "module github.com/rajsinghtech/tailgate\n\ngo 1.26\n",
	"internal/cli/cli.go":      "package cli\n\nvar version string\n\nfunc Version() string { return version }\n",
	"hello/tag.go":             "//go:build some\n\npackage main\n\nconst tag = \"tagged\"\n",
	"hello/other.go":           "//go:build !some\n\npackage main\n\nconst tag = \"untagged\"\n",
	"Taskfile.yml":             "version: '3'\nvars:\n  HELLO_TAGS:\n    - some\n    - more\n",
	"hello/main.go":            helloMain,
	chartFolder + "Chart.yaml": "appVersion: 1.2.3\n",
}

const chartFolder = "deploy/chart/tailgate-operator/"

const helloMain = `package main

import (
	"os"
	_ "os/user" // asks libc where it can, so a build that is not static does not run

	"github.com/rajsinghtech/tailgate/internal/cli"
)

func main() {
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		panic(err)
	}
	println(cli.Version(), tag, os.Getuid(), os.Getgid(), len(roots) > 100000)
}
`

// hello is the image of that program.
var hello = image{
	name: "tailgate-hello", description: "Says hello", user: "65532:65533",
	binaries: []binary{{name: "tailgate-hello", folder: "hello", tagsVar: "HELLO_TAGS"}},
}

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}
	local = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
)

// writeTree writes the tree to a new folder.
func writeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// makeHello makes the image of a tree for some platforms and returns what was printed.
func makeHello(t *testing.T, dir, out string, platforms ...v1.Platform) string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600") // 2026-01-01T00:00:00Z
	var printed bytes.Buffer
	err := execute(t.Context(), dir, settings{
		out: out, repository: "registry.example/some", version: "v1.2.3-test", platforms: platforms, images: []image{hello},
	}, &printed)
	if err != nil {
		t.Fatal(err)
	}
	return printed.String()
}

// TestReproducible makes the same source in two places, as two people would.
func TestReproducible(t *testing.T) {
	out := t.TempDir()
	first := makeHello(t, writeTree(t), filepath.Join(out, "a"), amd64, arm64)

	t.Setenv("GOFLAGS", "-tags=other -ldflags=-X=main.tag=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOARM64", "v9.0")
	t.Setenv("GOARCH", "riscv64")
	t.Setenv("GOFIPS140", "latest")
	t.Setenv("CGO_ENABLED", "1")
	t.Setenv("TZ", "Asia/Kathmandu")
	t.Setenv("TMPDIR", t.TempDir())
	defer syscall.Umask(syscall.Umask(0o077))
	second := makeHello(t, writeTree(t), filepath.Join(out, "b"), amd64, arm64)

	if first != second {
		t.Errorf("printed\n%s\nand then\n%s", first, second)
	}
	a, b := hashes(t, filepath.Join(out, "a")), hashes(t, filepath.Join(out, "b"))
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("files of the two builds (-first +second):\n%s", diff)
	}
	// What was compared is all that the usage text promises.
	for _, name := range []string{
		"tailgate-hello/index.json", "tailgate-hello.tar", "tailgate-hello.digest",
		"tailgate-hello-linux-amd64.tar", "tailgate-hello-linux-arm64.tar",
		"tailgate-hello-linux-amd64.spdx.json", "tailgate-hello-linux-arm64.spdx.json",
	} {
		if a[name] == "" {
			t.Errorf("there is no %s", name)
		}
	}

	// Another source is another image.
	changed := writeTree(t)
	if err := os.WriteFile(filepath.Join(changed, "hello/other_words.go"), []byte("package main\n\nfunc init() { println(1) }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if third := makeHello(t, changed, filepath.Join(out, "c"), amd64, arm64); third == first {
		t.Error("a changed source made the same images")
	}
}

// hashes returns the SHA-256 of every file below a folder.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		name, err := filepath.Rel(dir, path)
		found[name] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBinaries(t *testing.T) {
	dir, out := writeTree(t), t.TempDir()
	s := settings{out: out, binaries: true, platforms: []v1.Platform{arm64}, images: []image{hello}, version: "v1"}
	if err := execute(t.Context(), dir, s, io.Discard); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "tailgate-hello"))
	if err != nil {
		t.Fatal(err)
	}
	const machine, aarch64 = 18, 183 // e_machine of the ELF header, EM_AARCH64
	if !bytes.HasPrefix(data, []byte("\x7fELF")) || data[machine] != aarch64 {
		t.Errorf("--binaries for arm64 made a file that begins with %q", data[:20])
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct {
		args string
		want string
	}{
		{"--platform=windows/amd64", `--platform: "windows/amd64" is no platform, such as linux/amd64`},
		{"--platform=linux", `--platform: "linux" is no platform, such as linux/amd64`},
		{"--only=gateway,proxy", `--only: there is no image "proxy"; there are agent, gateway, operator`},
		{"--binaries", `--binaries builds for one platform, not for linux/amd64,linux/arm64; write --platform=linux/` + runtime.GOARCH + ` or another`},
		{"now", `"now" is no flag; see --help`},
		{"--repository=Some/Where --only=gateway", `image tailgate-gateway: --repository and --tag make no image name: `},
		{"--tag=a+b --only=gateway", `image tailgate-gateway: --repository and --tag make no image name: `},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(tt.args), io.Discard)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// TestBrokenSource builds from trees that lack something.
func TestBrokenSource(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             string
	}{
		{"no tags", "Taskfile.yml", "version: '3'\n", "image tailgate-hello: build tags of tailgate-hello: the Taskfile has no list HELLO_TAGS among its vars"},
		{"no Taskfile", "Taskfile.yml", ": :", "image tailgate-hello: build tags of tailgate-hello: read "},
		{"syntax", "hello/main.go", "package main\n\nfunc main() { broken }\n", "image tailgate-hello: build tailgate-hello for linux/" + runtime.GOARCH + ": go build: exit status 1\n"},
		{"no main", "hello/main.go", "package main\n", "image tailgate-hello: build tailgate-hello for linux/" + runtime.GOARCH + ": go build: exit status 1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeTree(t)
			if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			s := settings{out: t.TempDir(), repository: "r.example", platforms: []v1.Platform{local}, images: []image{hello}}
			err := execute(t.Context(), dir, s, io.Discard)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %v\nwant %s", err, tt.want)
			}
		})
	}
	t.Run("no module", func(t *testing.T) {
		_, err := readSource(t.Context(), t.TempDir(), "")
		if want := "this is no Go module; run it in a checkout of tailgate"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
	t.Run("time", func(t *testing.T) {
		t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
		_, err := readSource(context.Background(), writeTree(t), "")
		if want := `SOURCE_DATE_EPOCH "yesterday" is no time; write seconds since 1970, such as 1767225600`; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}
