package kind_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/kind"
)

// fakeVar names the file in which the fake engine notes what it is asked for.
const fakeVar = "KIND_TEST_ENGINE"

const root = "../.."

func TestMain(m *testing.M) {
	if file := os.Getenv(fakeVar); file != "" && filepath.Base(os.Args[0]) == "docker" {
		os.Exit(docker(file, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// docker is an engine that says yes to everything, until kind wants to look into a node.
func docker(file string, args []string) int {
	switch {
	case args[0] == "--version" || args[0] == "-v":
		fmt.Println("Docker version 99.0.0")
	case args[0] == "info":
		fmt.Println("{}")
	case args[0] == "logs":
		fmt.Println("Reached target Multi-User System.")
	case args[0] == "exec":
		return 1
	case args[0] == "run":
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 1
		}
		if _, err := fmt.Fprintln(f, strings.Join(args, " ")); err != nil || f.Close() != nil {
			return 1
		}
	}
	return 0
}

// engine puts the fake engine into the only folder in which programs are looked for beside that of Go, and returns the file of
// its notes.
func engine(t *testing.T) string {
	t.Helper()
	dir, self := t.TempDir(), "/proc/self/exe"
	self, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "docker")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "asked")
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv(fakeVar, file)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each call takes a second more with -race
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
	return file
}

// TestFiles has kind itself read the cluster files, and looks at the nodes that it wants to make of them.
func TestFiles(t *testing.T) {
	asked := engine(t)
	var said bytes.Buffer
	tool, err := kind.Build(t.Context(), root, &said)
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range kind.Families() {
		said.Reset()
		err := tool.Up(t.Context(), family, "--kubeconfig", filepath.Join(t.TempDir(), "kubeconfig"))
		if err == nil || !strings.Contains(said.String(), `Creating cluster "tailgate"`) {
			t.Errorf("%s: kind did not come as far as the nodes: %v\n%s", family, err, said.String())
			continue
		}
		text, err := os.ReadFile(asked)
		if err != nil {
			t.Fatalf("%s: no node was wanted: %v\n%s", family, err, said.String())
		}
		if err := os.Remove(asked); err != nil {
			t.Fatal(err)
		}
		nodes := strings.Split(strings.TrimSpace(string(text)), "\n")
		var names []string
		for _, n := range nodes {
			_, name, _ := strings.Cut(n, "--hostname ")
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
			if v6 := strings.Contains(n, "--sysctl=net.ipv6.conf.all.disable_ipv6=0"); v6 != (family != "v4") {
				t.Errorf("%s: that %s has IPv6 is %t", family, name, v6)
			}
			if port := strings.Contains(n, "--publish=127.0.0.1:"); port != strings.HasSuffix(name, "-control-plane") {
				t.Errorf("%s: %s is made with %s", family, name, n)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"tailgate-control-plane", "tailgate-worker", "tailgate-worker2"}, names); diff != "" {
			t.Errorf("%s: nodes (-want +got):\n%s", family, diff)
		}
	}
	if err := tool.Up(t.Context(), "ipv4"); err == nil || err.Error() != `there is no family "ipv4": use dual, v4, v6` {
		t.Errorf("a family that there is not: %v", err)
	}
}

// TestFilesAreKnown holds the folder against the families.
func TestFilesAreKnown(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "kind", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	if diff := cmp.Diff(kind.Families(), names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestNoEngine: a machine without an engine is told of the other way.
func TestNoEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
	_, err := kind.Build(t.Context(), root, os.Stderr)
	if !errors.Is(err, kind.ErrNoEngine) || !strings.Contains(err.Error(), "go tool task lab:up") {
		t.Errorf("without an engine: %v", err)
	}
}

// TestEngineWithoutServer: a client alone is no engine.
func TestEngineWithoutServer(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ntest \"$1\" = --version && echo Docker version 99.0.0\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
	if e, err := kind.FindEngine(t.Context()); !errors.Is(err, kind.ErrNoEngine) {
		t.Errorf("found %q, %v", e, err)
	}
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
	if e, err := kind.FindEngine(t.Context()); err != nil || e != "podman" {
		t.Errorf("the engine that was chosen: %q, %v", e, err)
	}
}
