package lab

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakePart adds a part that is made by fn, in a cache of the test's own.
func fakePart(t *testing.T, r recipe) Part {
	t.Helper()
	t.Setenv(CacheVar, t.TempDir())
	const p Part = "fake"
	all := maps.Clone(recipes)
	recipes[p] = r
	t.Cleanup(func() { recipes = all })
	return p
}

func TestBuildOnce(t *testing.T) {
	var mu sync.Mutex
	made := 0
	begun, goOn := make(chan struct{}), make(chan struct{})
	p := fakePart(t, recipe{about: "a fake", make: func(_ context.Context, _ *builder, dir string) error {
		mu.Lock()
		made++
		mu.Unlock()
		close(begun)
		<-goOn
		return os.WriteFile(filepath.Join(dir, "program"), []byte("x"), 0o755)
	}})
	var wg sync.WaitGroup
	waits := make(chan struct{})
	for i := range 2 {
		wg.Go(func() {
			var out notify
			if i == 1 {
				<-begun
				out = notify{on: "waiting for another process that builds fake\n", ch: waits}
			}
			b, err := Build(t.Context(), out, p)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := os.ReadFile(b.Path(p, "program")); err != nil || string(got) != "x" {
				t.Errorf("the program is %q, %v", got, err)
			}
		})
	}
	<-waits // the second has seen the first at work
	close(goOn)
	wg.Wait()
	if made != 1 {
		t.Errorf("two calls built %d times", made)
	}
}

// notify closes ch when on is written.
type notify struct {
	on string
	ch chan struct{}
}

func (n notify) Write(p []byte) (int, error) {
	if n.ch != nil && string(p) == n.on {
		close(n.ch)
	}
	return len(p), nil
}

func TestBuildFails(t *testing.T) {
	fail := true
	p := fakePart(t, recipe{about: "a fake", make: func(_ context.Context, _ *builder, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil || fail {
			return errors.Join(err, errors.New("no"))
		}
		return nil
	}})
	cache, err := CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	// What a build leaves that was killed.
	if err := os.Mkdir(filepath.Join(cache, "tmp-fake-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), nil, p); err == nil || err.Error() != "build fake: no" {
		t.Errorf("a build that fails gives %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(cache, "fake-*")); len(found) > 0 {
		t.Errorf("a failed build left %v", found)
	}
	fail = false
	if _, err := Build(t.Context(), nil, p); err != nil {
		t.Errorf("the build after a failed one: %v", err)
	}
	if found, _ := filepath.Glob(filepath.Join(cache, "tmp-*")); len(found) > 0 {
		t.Errorf("temporary folders are left: %v", found)
	}
	if _, err := Build(t.Context(), nil, "nothing"); err == nil || !strings.Contains(err.Error(), `there is no part "nothing": use one of [tools`) {
		t.Errorf("a part that nobody knows gives %v", err)
	}
}

func TestBuildChecksFirst(t *testing.T) {
	p := fakePart(t, recipe{
		about: "a fake",
		check: func(context.Context) error { return errors.New("install gcc") },
		make:  func(context.Context, *builder, string) error { return nil },
	})
	before := recipes[Tools]
	recipes[Tools] = recipe{make: func(context.Context, *builder, string) error {
		t.Error("something is built before all is known to be there")
		return nil
	}}
	t.Cleanup(func() { recipes[Tools] = before })
	if _, err := Build(t.Context(), nil, Tools, p); err == nil || err.Error() != "install gcc" {
		t.Errorf("a machine that lacks something gives %v", err)
	}
}

// TestKeys wants a part to be built again when what it is made of has changed, and not otherwise.
func TestKeys(t *testing.T) {
	root := t.TempDir()
	write := func(file, content string) {
		t.Helper()
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	fakePart(t, recipe{sources: []string{"a", "go.mod#x/"}})
	recipes["user"] = recipe{after: []Part{"fake"}}
	keys := func() map[Part]string {
		t.Helper()
		b := &builder{root: root, goVersion: "go1", keys: make(map[Part]string)}
		for _, p := range []Part{"fake", "user"} {
			if _, err := b.key(p); err != nil {
				t.Fatal(err)
			}
		}
		return b.keys
	}
	write("test/lab/recipes.go", "")
	write("a/b.go", "one")
	write("go.mod", "require x/y 1\nrequire z 1\n")
	last := keys()
	for _, tt := range []struct {
		file, content string
		changes       bool
	}{
		{"a/b_test.go", "a test", false},
		{"go.mod", "require x/y 1\nrequire z 2\n", false},
		{"a/b.go", "two", true},
		{"a/c/d.go", "", true},
		{"go.mod", "require x/y 2\nrequire z 2\n", true},
		{"test/lab/recipes.go", "other flags", true},
	} {
		write(tt.file, tt.content)
		now := keys()
		for p := range now {
			if changed := now[p] != last[p]; changed != tt.changes {
				t.Errorf("%s changed to %q: the key of %s changed: %v, want %v", tt.file, tt.content, p, changed, tt.changes)
			}
		}
		last = now
	}
}

// TestVersion keeps the version that hyperkube says of itself that of its module.
func TestVersion(t *testing.T) {
	mod, err := os.ReadFile("kube/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(mod, []byte("k8s.io/kubernetes "+KubernetesVersion+"\n")) {
		t.Errorf("kube/go.mod has another Kubernetes than %s", KubernetesVersion)
	}
}

func TestLinesWith(t *testing.T) {
	if diff := cmp.Diff("b x\nd x", string(linesWith([]byte("a\nb x\nc\nd x"), "x"))); diff != "" {
		t.Error(diff)
	}
}
