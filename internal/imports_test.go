// Package internal_test keeps the rules of who may import whom in the whole
// module. The linter knows them too, so that an editor shows them; this test also
// sees what a package reaches by way of others.
package internal_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/rajsinghtech/tailgate/"

// A rule forbids some imports to some folders, which are named relative to the
// module and stand for all below them.
type rule struct {
	says   string   // the rule, for who breaks it
	in     []string // where it holds; "." is the whole module
	except []string // where, inside of that, it does not
	tests  bool     // whether it holds for _test.go files
	deep   bool     // whether it holds for what imported packages of the module import in turn
	forbid func(imported string) bool
}

var rules = []rule{
	{
		says: "gateway never imports another binary", in: []string{"gateway"}, tests: true, deep: true,
		forbid: within(module+"operator", module+"agent", module+"cni"),
	},
	{
		says: "operator never imports another binary", in: []string{"operator"}, tests: true, deep: true,
		forbid: within(module+"gateway", module+"agent", module+"cni"),
	},
	{
		says: "agent never imports another binary, but for the API's types", in: []string{"agent"}, tests: true, deep: true,
		forbid: func(imported string) bool {
			return within(module+"gateway", module+"operator", module+"cni")(imported) && !within(module+"operator/api")(imported)
		},
	},
	{
		says: "cni never imports another binary", in: []string{"cni"}, tests: true, deep: true,
		forbid: within(module+"gateway", module+"operator", module+"agent"),
	},
	{
		says: "internal is below the binaries", in: []string{"internal"}, tests: true,
		forbid: within(module+"gateway", module+"operator", module+"agent", module+"cni"),
	},
	{
		says: "the API's types need nothing but Kubernetes' API machinery", in: []string{"operator/api"},
		forbid: func(imported string) bool {
			return !standard(imported) && !within("k8s.io/api", "k8s.io/apimachinery")(imported)
		},
	},
	{
		says: "test code does not ship", in: []string{"."}, except: []string{"test"},
		forbid: within(module + "test"),
	},
	{
		says: "nothing that ships runs other programs", in: []string{"."}, except: []string{"deploy", "test"}, // deploy runs the compiler
		forbid: within("os/exec"),
	},
	{
		says: "ident and netstate use the standard library only", in: []string{"internal/ident", "internal/netstate"},
		except: []string{"internal/netstate/netstatetest"}, // generates states for tests, elsewhere too
		forbid: func(imported string) bool { return !standard(imported) },
	},
	{
		says: "topology and membership are pure", in: []string{"internal/topology", "agent/membership"},
		forbid: impure,
	},
	{
		says: "only kernel and netns speak netlink", in: []string{"."},
		except: []string{"internal/kernel", "internal/netns", "test"},
		forbid: within("github.com/vishvananda"),
	},
	{
		says: "only ruleset speaks nftables", in: []string{"."}, except: []string{"internal/ruleset", "test"},
		forbid: within("github.com/google/nftables"),
	},
	{
		says: "only gateway links Tailscale", in: []string{"."}, except: []string{"gateway", "operator", "test"},
		forbid: within("tailscale.com"),
	},
	{
		says: "operator uses Tailscale's API client only", in: []string{"operator"},
		forbid: func(imported string) bool {
			return within("tailscale.com")(imported) && !within("tailscale.com/client/tailscale/v2")(imported)
		},
	},
	{
		says: "only gateway opens the TUN", in: []string{"."}, except: []string{"gateway", "test"},
		forbid: within("github.com/tailscale/wireguard-go", "golang.zx2c4.com/wireguard"),
	},
	{
		says: "cni knows no Kubernetes", in: []string{"cni"}, deep: true,
		forbid: within("k8s.io", "sigs.k8s.io"),
	},
}

// within returns whether an import is one of roots or below it.
func within(roots ...string) func(string) bool {
	return func(imported string) bool {
		return slices.ContainsFunc(roots, func(root string) bool {
			return root == "." || imported == root || strings.HasPrefix(imported, root+"/")
		})
	}
}

// standard knows the standard library by its lack of a domain, as the go command does.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// impure says whether a pure package must not import imported: what does I/O, and
// all outside the standard library but the vocabulary of desired state and of selectors.
func impure(imported string) bool {
	if !standard(imported) {
		return !within(
			module+"internal/ident", module+"internal/netstate", module+"internal/ruleset", module+"operator/api",
			"k8s.io/apimachinery/pkg/labels", "k8s.io/apimachinery/pkg/types", "k8s.io/apimachinery/pkg/apis/meta/v1",
		)(imported)
	}
	return imported == "net" || within("net/http", "net/rpc", "net/smtp", "os", "syscall", "log")(imported)
}

// source is what the files of one package import.
type source struct {
	imports []string // by what is built
	tests   []string // by _test.go files
}

// load reads the imports of every package of the module at the root of tree, by
// its folder. It leaves out what the go command leaves out, and honours no build
// constraint: a rule holds on every platform.
func load(tree fs.FS) (map[string]source, error) {
	packages := map[string]source{}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(tree, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		imports, err := importsOf(tree, name)
		if err != nil {
			return err
		}
		pkg := packages[path.Dir(name)]
		if strings.HasSuffix(name, "_test.go") {
			pkg.tests = append(pkg.tests, imports...)
		} else {
			pkg.imports = append(pkg.imports, imports...)
		}
		packages[path.Dir(name)] = pkg
		return nil
	})
	return packages, err
}

// enter returns [fs.SkipDir] for a folder that holds no packages of the module.
func enter(tree fs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	base := path.Base(dir)
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func importsOf(tree fs.FS, name string) ([]string, error) {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	imports := make([]string, len(file.Imports))
	for i, spec := range file.Imports {
		if imports[i], err = strconv.Unquote(spec.Path.Value); err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
	}
	return imports, nil
}

// broken returns a line for each import that breaks a rule, in order.
func broken(packages map[string]source) []string {
	var lines []string
	for _, r := range rules {
		for dir, pkg := range packages {
			if !within(r.in...)(dir) || len(r.except) > 0 && within(r.except...)(dir) {
				continue
			}
			imports := pkg.imports
			if r.tests {
				imports = slices.Concat(imports, pkg.tests)
			}
			for imported, way := range reach(packages, imports, r.deep) {
				if r.forbid(imported) {
					lines = append(lines, fmt.Sprintf("%s: %s -> %s", r.says, dir, way))
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// reach returns imports, and if deep also what those of them that belong to the
// module import, each with a way that leads to it.
func reach(packages map[string]source, imports []string, deep bool) map[string]string {
	ways := map[string]string{}
	for _, imported := range imports {
		ways[imported] = imported
	}
	if !deep {
		return ways
	}
	for queue := slices.Sorted(maps.Keys(ways)); len(queue) > 0; queue = queue[1:] {
		for _, next := range packages[strings.TrimPrefix(queue[0], module)].imports {
			if _, seen := ways[next]; !seen {
				ways[next] = ways[queue[0]] + " -> " + next
				queue = append(queue, next)
			}
		}
	}
	return ways
}

func TestImports(t *testing.T) {
	packages, err := load(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := packages["internal/ident"]; !ok {
		t.Fatalf("the module's own packages were not found, only %q", slices.Sorted(maps.Keys(packages)))
	}
	for _, line := range broken(packages) {
		t.Error(line)
	}
}

// TestBroken breaks every rule once, in trees that exist in this test only.
func TestBroken(t *testing.T) {
	tests := []struct {
		file, imports string
		want          string // the rule that it breaks
	}{
		{"gateway/node/node.go", module + "agent/joiner", "gateway never imports another binary"},
		{"operator/main.go", module + "gateway/config", "operator never imports another binary"},
		{"agent/joiner/joiner_test.go", module + "cni", "agent never imports another binary, but for the API's types"},
		{"agent/joiner/joiner.go", module + "operator/api/v1alpha1", ""},
		{"operator/api/v1alpha1/names.go", "sigs.k8s.io/controller-runtime", "the API's types need nothing but Kubernetes' API machinery"},
		{"operator/api/v1alpha1/names.go", "k8s.io/apimachinery/pkg/labels", ""},
		{"cni/main.go", module + "agent/server", "cni never imports another binary"},
		{"internal/cnirpc/wire.go", module + "agent/server", "internal is below the binaries"},
		{"gateway/node/node.go", module + "test/tailnet", "test code does not ship"},
		{"gateway/node/node_test.go", module + "test/tailnet", ""},
		{"internal/kernel/apply.go", "os/exec", "nothing that ships runs other programs"},
		{"test/demo/main.go", "os/exec", ""},
		{"deploy/images/build.go", "os/exec", ""},
		{"internal/ident/ident.go", "golang.org/x/sys/unix", "ident and netstate use the standard library only"},
		{"internal/netstate/diff.go", module + "internal/ident", "ident and netstate use the standard library only"},
		{"internal/netstate/diff.go", "net/netip", ""},
		{"internal/topology/member.go", "net", "topology and membership are pure"},
		{"internal/topology/member.go", module + "internal/kernel", "topology and membership are pure"},
		{"internal/topology/member.go", module + "internal/ruleset", ""},
		{"agent/membership/groups.go", "os", "topology and membership are pure"},
		{"agent/membership/groups.go", "k8s.io/client-go/kubernetes", "topology and membership are pure"},
		{"agent/membership/groups.go", "k8s.io/apimachinery/pkg/labels", ""},
		{"agent/joiner/joiner.go", "github.com/vishvananda/netlink", "only kernel and netns speak netlink"},
		{"internal/kernel/apply.go", "github.com/vishvananda/netlink", ""},
		{"gateway/debug/debug.go", "github.com/google/nftables/expr", "only ruleset speaks nftables"},
		{"agent/main.go", "tailscale.com/ipn", "only gateway links Tailscale"},
		{"gateway/node/node.go", "tailscale.com/ipn", ""},
		{"operator/render/render.go", "tailscale.com/ipn", "operator uses Tailscale's API client only"},
		{"operator/tailnet/keys.go", "tailscale.com/client/tailscale/v2", ""},
		{"agent/joiner/joiner.go", "github.com/tailscale/wireguard-go/tun", "only gateway opens the TUN"},
		{"cni/main.go", "k8s.io/api/core/v1", "cni knows no Kubernetes"},
	}
	proven := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.imports, func(t *testing.T) {
			packages, err := load(fstest.MapFS{tt.file: file(tt.imports)})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if tt.want != "" {
				proven[tt.want] = true
				want = []string{fmt.Sprintf("%s: %s -> %s", tt.want, path.Dir(tt.file), tt.imports)}
			}
			if diff := cmp.Diff(want, broken(packages)); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range rules {
		if !proven[r.says] {
			t.Errorf("no case breaks the rule %q", r.says)
		}
	}
}

// TestDeep reaches Kubernetes by way of two packages, and leaves alone what the
// go command does not build into the module.
func TestDeep(t *testing.T) {
	packages, err := load(fstest.MapFS{
		"cni/main.go":                file(module + "internal/cnirpc"),
		"internal/cnirpc/wire.go":    file(module + "internal/pods"),
		"internal/pods/pods.go":      file("k8s.io/api/core/v1"),
		"internal/pods/pods_test.go": file(module + "test/lab"),
		"cni/testdata/bad.go":        file("k8s.io/api/core/v1"),
		"cni/lab/go.mod":             {Data: []byte("module lab\n")},
		"cni/lab/lab.go":             file("k8s.io/api/core/v1"),
		".cache/cni/cni.go":          file("k8s.io/api/core/v1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cni knows no Kubernetes: cni -> " +
		module + "internal/cnirpc -> " + module + "internal/pods -> k8s.io/api/core/v1"}
	if diff := cmp.Diff(want, broken(packages)); diff != "" {
		t.Errorf("broken rules (-want +got):\n%s", diff)
	}
}

func file(imported string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("package p\nimport " + strconv.Quote(imported) + "\n")}
}
