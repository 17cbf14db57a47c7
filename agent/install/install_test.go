package install

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// node is the part of a node that the package works on.
type node struct{ bin, conf, plugin string }

// newNode makes a node whose configuration folder has files, by name.
func newNode(t *testing.T, files map[string]string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{bin: filepath.Join(dir, "opt/cni/bin"), conf: filepath.Join(dir, "etc/cni/net.d"), plugin: filepath.Join(dir, "plugin")}
	if err := os.MkdirAll(n.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	n.put(t, n.plugin, "the plugin, version 1")
	for name, text := range files {
		n.write(t, name, text)
	}
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.conf, name) }

// write writes a configuration file as a CNI's installer does.
func (n *node) write(t *testing.T, name, text string) {
	t.Helper()
	n.put(t, n.path(name), text)
}

func (n *node) put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (n *node) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(n.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// installer returns one for n, with what change does to its options.
func (n *node) installer(t *testing.T, change ...func(*Options)) *Installer {
	t.Helper()
	o := Options{BinDir: n.bin, ConfDir: n.conf, Plugin: n.plugin, Socket: "/run/tailgate/agent/cni.sock", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, f := range change {
		f(&o)
	}
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// sample returns a file of testdata.
func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// snapshot returns all that is to know of the files in dir, but for times: a line each.
func snapshot(t *testing.T, dir string, withInodes bool) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d", strings.TrimPrefix(path, dir), info.Mode(), st.Uid, st.Gid)
		if withInodes && !e.IsDir() {
			line += fmt.Sprintf(" inode %d", st.Ino)
		}
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", text)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// chain returns the plugins that a runtime runs, by containerd's rules (go-cni) and CRI-O's (ocicni), which agree where the
// first file can be read.
func (n *node) chain(t *testing.T) []string {
	t.Helper()
	files, err := libcni.ConfFiles(n.conf, []string{".conf", ".conflist", ".json"})
	if err != nil || len(files) == 0 {
		t.Fatalf("no configuration: %v", err)
	}
	if filepath.Ext(files[0]) == ".conflist" {
		l, err := libcni.NetworkConfFromFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return kinds(t, l.Bytes)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	p, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	return []string{p.Network.Type}
}

// TestSamples: the configurations of well-known CNIs, put in and taken out.
func TestSamples(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  map[string]string // names in the folder, by samples
		golden string            // the file that has the entry after
		chain  []string
	}{
		{"kindnet", map[string]string{"10-kindnet.conflist": "kindnet.conflist"}, "10-kindnet.conflist", []string{"ptp", "portmap", pluginType}},
		{"flannel", map[string]string{"10-flannel.conflist": "flannel.conflist"}, "10-flannel.conflist", []string{"flannel", "portmap", pluginType}},
		{"calico", map[string]string{"10-calico.conflist": "calico.conflist"}, "10-calico.conflist", []string{"calico", "bandwidth", "portmap", pluginType}},
		{
			"cilium", map[string]string{"05-cilium.conflist": "cilium.conflist", "10-kindnet.conflist.cilium_bak": "kindnet.conflist"},
			"05-cilium.conflist", []string{"cilium-cni", pluginType},
		},
		{
			"aws-vpc", map[string]string{"10-aws.conflist": "aws-vpc.conflist", "99-loopback.conf": "lone.conf"},
			"10-aws.conflist", []string{"aws-cni", "egress-cni", "portmap", pluginType},
		},
		{
			"multus with delegates", map[string]string{"00-multus.conf": "multus-delegates.conf", "10-flannel.conflist": "flannel.conflist"},
			"00-multus.conf", []string{"multus"},
		},
		{
			"multus with a cluster network", map[string]string{"00-multus.conf": "multus-cluster.conf", "10-flannel.conflist": "flannel.conflist"},
			"10-flannel.conflist", []string{"multus-shim"},
		},
		{
			"lone conf", map[string]string{"10-mynet.conf": "lone.conf", "20-kindnet.conflist": "kindnet.conflist"},
			"10-mynet-tailgate.conflist", []string{"bridge", pluginType},
		},
		{"lone json", map[string]string{"mynet.json": "lone.conf"}, "mynet-tailgate.conflist", []string{"bridge", pluginType}},
		{"odd", map[string]string{"odd.conflist": "odd.conflist"}, "odd.conflist", []string{"ptp", pluginType}},
		{
			"beside what runtimes do not read", map[string]string{"00-x.conflist.bak": "broken.conflist", "multus.d/x.conf": "broken.conflist", "1.conflist": "kindnet.conflist"},
			"1.conflist", []string{"ptp", "portmap", pluginType},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, nil)
			for name, of := range tt.files {
				if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				n.write(t, name, strings.ReplaceAll(sample(t, of), "/host/etc/cni/net.d/10-", "/host"+n.conf+"/10-"))
			}
			before := snapshot(t, n.conf, false)
			i := n.installer(t)
			i.look()
			want := Status{State: Ready, Reason: Installed, Message: "tailgate-cni is in " + n.path(tt.golden), File: n.path(tt.golden), Patches: 1}
			if diff := cmp.Diff(want, i.Status()); diff != "" {
				t.Fatalf("status (-want +got):\n%s", diff)
			}
			golden(t, tt.name, n.read(t, tt.golden))
			if diff := cmp.Diff(tt.chain, n.chain(t)); diff != "" {
				t.Errorf("plugins that a runtime runs (-want +got):\n%s", diff)
			}

			patched := snapshot(t, n.conf, true)
			i.look()
			if diff := cmp.Diff(patched, snapshot(t, n.conf, true)); diff != "" {
				t.Errorf("a second look changed (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(want, i.Status()); diff != "" {
				t.Errorf("status after a second look (-want +got):\n%s", diff)
			}

			if err := i.Uninstall(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, n.conf, false)); diff != "" {
				t.Errorf("put in and taken out (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff([]string{" drwxr-xr-x 0:0"}, snapshot(t, n.bin, false)); diff != "" {
				t.Errorf("left in the binary's folder (-want +got):\n%s", diff)
			}
			i.look()
			if diff := cmp.Diff(before, snapshot(t, n.conf, false)); diff != "" {
				t.Errorf("a look after that (-before +after):\n%s", diff)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "patched", strings.ReplaceAll(name, " ", "-"))
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); go test -update writes it anew:\n%s", path, diff)
	}
}

// TestRefused: configurations that are left alone, each with a sentence.
func TestRefused(t *testing.T) {
	list := func(more string) string { return `{"name":"n","plugins":[{"type":"a"}]` + more + `}` }
	for _, tt := range []struct {
		name, file, text string
		make             func(t *testing.T, n *node)
		why              string // after the file's path
	}{
		{name: "broken JSON", file: "10-a.conflist", text: sample(t, "broken.conflist"), why: "is not JSON (unexpected EOF); mend it"},
		{name: "no JSON", file: "10-a.conflist", text: "cni: yes", why: "is not JSON (invalid character 'c' looking for beginning of value at byte 1); mend it"},
		{name: "two objects", file: "10-a.conflist", text: list("") + "{}", why: "is not JSON (there is more text after the end of the object, at byte 37); mend it"},
		{name: "empty", file: "10-a.conf", text: " \n", why: "is empty; write a network configuration into it"},
		{name: "no object", file: "10-a.conflist", text: "[]", why: "is not understood: it is not an object"},
		{name: "no plugins", file: "10-a.conflist", text: `{"name":"n"}`, why: `has no "plugins"; write the plugins of the network into it`},
		{name: "single plugin as a list", file: "10-a.conflist", text: sample(t, "lone.conf"), why: `has no "plugins"; write the plugins of the network into it`},
		{name: "none in plugins", file: "10-a.conflist", text: `{"name":"n","plugins":[]}`, why: `has no plugin in "plugins" that makes the pod's interface; write it there`},
		{name: "ours alone", file: "10-a.conflist", text: `{"name":"n","plugins":[` + string(testEntry) + `]}`, why: `has no plugin in "plugins" that makes the pod's interface; write it there`},
		{name: "plugins of another type", file: "10-a.conflist", text: `{"name":"n","plugins":{"type":"a"}}`, why: `has "plugins" that are not understood: it is not a list`},
		{name: "plugin of another type", file: "10-a.conflist", text: `{"name":"n","plugins":["a"]}`, why: `has, as plugin 1, one that is not understood: it is not an object`},
		{name: "plugin without type", file: "10-a.conflist", text: `{"name":"n","plugins":[{"type":"a"},{"name":"b"}]}`, why: `has, as plugin 2, one that is not understood: it has no "type"`},
		{name: "keys twice", file: "10-a.conflist", text: list(`,"plugins":[{"type":"b"}]`), why: `is not understood: the key "plugins" is there twice`},
		{name: "no name", file: "10-a.conflist", text: `{"plugins":[{"type":"a"}]}`, why: `has no "name"; give the network one`},
		{name: "name of another type", file: "10-a.conf", text: `{"name":1,"type":"a"}`, why: `has no "name"; give the network one`},
		{name: "bad name", file: "10-a.conflist", text: `{"name":"my net","plugins":[{"type":"a"}]}`, why: `has the name "my net", which CNI does not allow; write one of letters, digits, and _ . - within`},
		{
			name: "version to come", file: "10-a.conflist", text: list(`,"cniVersion":"2.0.0"`),
			why: `has the CNI version "2.0.0", which tailgate-cni does not speak; it speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
		},
		{
			name: "version to come, of a single plugin", file: "10-a.conf", text: `{"name":"n","type":"a","cniVersion":"1.1"}`,
			why: `has the CNI version "1.1", which tailgate-cni does not speak; it speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
		},
		{
			name: "versions to come", file: "10-a.conflist", text: list(`,"cniVersions":["1.0.0","1.2.0"]`),
			why: `has the CNI version "1.2.0", which tailgate-cni does not speak; it speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`,
		},
		{name: "version of another type", file: "10-a.conflist", text: list(`,"cniVersion":1`), why: `has a "cniVersion" that is not in quotes; write one such as "1.0.0"`},
		{name: "versions of another type", file: "10-a.conflist", text: list(`,"cniVersions":"1.0.0"`), why: `has "cniVersions" that are no list of versions; write one such as ["1.0.0"]`},
		{name: "refused by runtimes", file: "10-a.conflist", text: list(`,"disableCheck":7`), why: `is refused by libcni: error parsing configuration list: invalid type float64 for disableCheck`},
		{name: "list as a single plugin", file: "10-a.conf", text: list(""), why: `has "plugins", and a name that runtimes take for that of a single plugin; rename it to end in .conflist`},
		{name: "single plugin without type", file: "10-a.json", text: `{"name":"n"}`, why: `has no "type"; write the plugin's name there`},
		{name: "ours as a single plugin", file: "10-a.conf", text: `{"name":"n","type":"tailgate-cni"}`, why: `has tailgate-cni alone, which makes no interface for a pod; chain it after a plugin that does`},
		{
			name: "single plugin with a number out of range", file: "10-a.conf", text: `{"name":"n","type":"a","x":1e999}`,
			why: `would not be understood with tailgate-cni in it: is refused by libcni: error parsing configuration list: json: cannot unmarshal number 1e999 into Go value of type float64`,
		},
		{
			name: "multus without networks", file: "00-multus.conf", text: `{"name":"m","type":"multus"}`,
			why: `is Multus', and has neither a clusterNetwork nor delegates; set cni.mode to "binary" and chain tailgate-cni in that network yourself`,
		},
		{
			name: "multus with a named network", file: "00-multus.conf", text: `{"name":"m","type":"multus","clusterNetwork":"flannel"}`,
			why: `is Multus', and its clusterNetwork "flannel" is no .conflist in DIR; set cni.mode to "binary" and chain tailgate-cni in that network yourself`,
		},
		{
			name: "multus with a network elsewhere", file: "00-multus.conf", text: `{"name":"m","type":"multus","clusterNetwork":"/run/multus/cni/net.d/10-a.conflist"}`,
			why: `is Multus', and its clusterNetwork "/run/multus/cni/net.d/10-a.conflist" is no .conflist in DIR; set cni.mode to "binary" and chain tailgate-cni in that network yourself`,
		},
		{
			name: "multus with a single delegate", file: "00-multus.conf", text: `{"name":"m","type":"multus","delegates":[{"type":"weave-net"}]}`,
			why: `is Multus', and its first delegate has no "plugins"; write the plugins of the network into it; set cni.mode to "binary" and chain tailgate-cni in that network yourself`,
		},
		{
			name: "plugins in a folder", file: "10-a.conflist", text: list(""), make: func(t *testing.T, n *node) {
				t.Helper()
				if err := os.Mkdir(n.path("n"), 0o755); err != nil {
					t.Fatal(err)
				}
				n.write(t, "n/50-more.conf", `{"type":"b"}`)
			},
			why: `takes plugins from DIR/n, too, which would run after tailgate-cni; move them into its "plugins"`,
		},
		{
			name: "symbolic link", file: "10-a.conflist", make: func(t *testing.T, n *node) {
				t.Helper()
				n.put(t, n.plugin+".conflist", list(""))
				if err := os.Symlink(n.plugin+".conflist", n.path("10-a.conflist")); err != nil {
					t.Fatal(err)
				}
			},
			why: "is a symbolic link, whose target may be out of the agent's sight; make it a file",
		},
		{
			name: "FIFO", file: "10-a.conflist", make: func(t *testing.T, n *node) {
				t.Helper()
				if err := syscall.Mkfifo(n.path("10-a.conflist"), 0o644); err != nil {
					t.Fatal(err)
				}
			},
			why: "is not a regular file; make it one",
		},
		{name: "large", file: "10-a.conf", text: strings.Repeat(" ", maxFile) + "{}", why: "has more than 1048576 bytes, and is hardly a network configuration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// One that would do stands after it: it is not what containerd takes.
			n := newNode(t, map[string]string{"20-kindnet.conflist": sample(t, "kindnet.conflist")})
			if tt.text != "" {
				n.write(t, tt.file, tt.text)
			}
			if tt.make != nil {
				tt.make(t, n)
			}
			before := snapshot(t, n.conf, true)
			i := n.installer(t)
			i.look()
			want := Status{State: Unready, Reason: NotUnderstood, Message: n.path(tt.file) + " " + strings.ReplaceAll(tt.why, "DIR", n.conf)}
			if diff := cmp.Diff(want, i.Status()); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, snapshot(t, n.conf, true)); diff != "" {
				t.Errorf("it was touched (-before +after):\n%s", diff)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("an installer without a binary was made")
	}
	_, err := New(Options{Plugin: "/p", Mode: "sidecar"})
	if want := `install CNI plugin: CNI mode "sidecar" is not known; write chained, binary or disabled`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	i, err := New(Options{Plugin: "/p"})
	if err != nil {
		t.Fatal(err)
	}
	if got := []string{i.opts.BinDir, i.opts.ConfDir, string(i.opts.Mode), string(i.entry)}; !cmp.Equal(got,
		[]string{"/opt/cni/bin", "/etc/cni/net.d", "chained", string(testEntry)}) {
		t.Errorf("defaults %q", got)
	}
}
