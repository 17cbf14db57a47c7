package install

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

var testEntry = []byte(`{"type":"tailgate-cni","managedBy":"tailgate-agent"}`)

// entries of others: by hand, and of an agent with other settings.
const (
	byHand = `{"type":"tailgate-cni","timeout":"9s"}`
	old    = `{"type":"tailgate-cni","managedBy":"tailgate-agent","socket":"/old"}`
)

func parse(t *testing.T, text string) *list {
	t.Helper()
	s, err := root([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	l, err := parseList([]byte(text), s)
	if err != nil {
		t.Fatalf("list %v: %s", err, text)
	}
	return l
}

func TestWithAndWithout(t *testing.T) {
	const ours = `{"type":"tailgate-cni","managedBy":"tailgate-agent"}`
	for _, tt := range []struct{ name, text, with, without string }{
		{
			"one line", `{"name":"n","plugins":[{"type":"a"}]}`,
			`{"name":"n","plugins":[{"type":"a"},` + ours + `]}`, `{"name":"n","plugins":[{"type":"a"}]}`,
		},
		{
			"spaces", `{"plugins": [ {"type":"a"} , {"type":"b"} ] }`,
			`{"plugins": [ {"type":"a"} , {"type":"b"}, ` + ours + ` ] }`, `{"plugins": [ {"type":"a"} , {"type":"b"} ] }`,
		},
		{
			"lines", "{\n\t\"plugins\": [\n\t\t{\"type\":\"a\"}\n\t]\n}\n",
			"{\n\t\"plugins\": [\n\t\t{\"type\":\"a\"},\n\t\t" + ours + "\n\t]\n}\n", "{\n\t\"plugins\": [\n\t\t{\"type\":\"a\"}\n\t]\n}\n",
		},
		{"there", `{"plugins":[{"type":"a"},` + ours + `]}`, `{"plugins":[{"type":"a"},` + ours + `]}`, `{"plugins":[{"type":"a"}]}`},
		{
			"there, written anew by another", `{"plugins":[{"type":"a"}, {"managedBy": "tailgate-agent", "type": "tailgate-cni"}, {"type":"b"}]}`,
			`{"plugins":[{"type":"a"}, {"managedBy": "tailgate-agent", "type": "tailgate-cni"}, {"type":"b"}]}`, `{"plugins":[{"type":"a"}, {"type":"b"}]}`,
		},
		{"other settings", `{"plugins":[{"type":"a"},` + old + `,{"type":"b"}]}`, `{"plugins":[{"type":"a"},{"type":"b"},` + ours + `]}`, `{"plugins":[{"type":"a"},{"type":"b"}]}`},
		{"first", `{"plugins":[` + ours + `, {"type":"a"}]}`, `{"plugins":[{"type":"a"},` + ours + `]}`, `{"plugins":[{"type":"a"}]}`},
		{
			"again and again", `{"plugins":[` + ours + `,` + ours + `,{"type":"a"},` + ours + `,` + old + `,{"type":"b"},` + ours + `]}`,
			`{"plugins":[{"type":"a"},{"type":"b"},` + ours + `]}`, `{"plugins":[{"type":"a"},{"type":"b"}]}`,
		},
		{"by hand", `{"plugins":[{"type":"a"},` + byHand + `]}`, `{"plugins":[{"type":"a"},` + byHand + `]}`, `{"plugins":[{"type":"a"},` + byHand + `]}`},
		{
			"by hand, too", `{"plugins":[{"type":"a"},` + byHand + `,` + ours + `]}`,
			`{"plugins":[{"type":"a"},` + byHand + `]}`, `{"plugins":[{"type":"a"},` + byHand + `]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := parse(t, tt.text)
			if diff := cmp.Diff(tt.with, string(l.with(testEntry))); diff != "" {
				t.Errorf("with (-want +got):\n%s", diff)
			}
			without, _ := l.without()
			if diff := cmp.Diff(tt.without, string(without)); diff != "" {
				t.Errorf("without (-want +got):\n%s", diff)
			}
		})
	}
}

// kinds returns the types of the plugins of a list, as libcni reads it.
func kinds(t *testing.T, text []byte) []string {
	t.Helper()
	l, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		t.Fatalf("libcni refuses the list: %v\n%s", err, text)
	}
	var all []string
	for _, p := range l.Plugins {
		all = append(all, p.Network.Type)
	}
	return all
}

// FuzzPatch puts the entry into any list and takes it out.
func FuzzPatch(f *testing.F) {
	samples, err := filepath.Glob("testdata/*.conf*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range samples {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range []string{old, byHand, string(testEntry)} {
		f.Add(fmt.Appendf(nil, `{"name":"n","plugins":[%s,{"type":"a"} ,%s]}`, s, s))
	}
	f.Add([]byte(`{"name":"0","type":"0","0":1E700}`)) // no float64
	f.Add([]byte("{\"name\":\"n\",\"plugins\":[\v{\"type\":\"\xff\"}],\"plugins\":7}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := root(text)
		if err != nil {
			return
		}
		fuzzConvert(t, text)
		l, err := parseList(text, s)
		if err != nil {
			return
		}
		without, left := l.without()
		patched := l.with(testEntry)
		again := parse(t, string(patched))
		if diff := cmp.Diff(string(patched), string(again.with(testEntry))); diff != "" {
			t.Errorf("put in twice (-once +twice):\n%s", diff)
		}
		if back, _ := again.without(); !bytes.Equal(back, without) {
			t.Errorf("put in and taken out (-before +after):\n%s", cmp.Diff(string(without), string(back)))
		}
		if len(l.managed()) == 0 && !bytes.Equal(without, text) {
			t.Errorf("taken out of a list that has none (-before +after):\n%s", cmp.Diff(string(text), string(without)))
		}
		for i, e := range left {
			if p := parse(t, string(without)).plugins[i]; p != e {
				t.Errorf("plugin %d is said to be at %v, and is at %v", i, e, p)
			}
		}
		if l.check() != nil {
			return
		}
		if err := again.check(); err != nil {
			t.Errorf("the patched list %v", err)
		}
		if !l.foreign() && len(l.managed()) == 0 {
			if diff := cmp.Diff(append(kinds(t, text), pluginType), kinds(t, patched)); diff != "" {
				t.Errorf("plugins (-want +got):\n%s", diff)
			}
		}
	})
}

// fuzzConvert makes a list of any single plugin.
func fuzzConvert(t *testing.T, text []byte) {
	t.Helper()
	p, err := placeIn("/d", &file{path: "/d/10-fuzz.conf", text: text})
	if err != nil || p.list != nil {
		return
	}
	single, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := libcni.ConfListFromConf(single) //nolint:staticcheck // it is what runtimes do with a single plugin
	if err != nil {
		return // then they do not take it, and write would say so
	}
	made, err := convert(p.file, testEntry)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(made, bytes.TrimSpace(text)) {
		t.Errorf("the plugin is not in the list as it was: %s", made)
	}
	f := &file{path: convertedPath(p.file.path), text: made}
	if err := verify(f); err != nil {
		t.Errorf("the list %v: %s", err, made)
	}
	if from := convertedFrom(f); from != "10-fuzz.conf" {
		t.Errorf("the list says it is of %q", from)
	}
	got, err := libcni.NetworkConfFromBytes(made)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != want.Name || got.CNIVersion != want.CNIVersion || !bytes.Equal(got.Plugins[0].Bytes, want.Plugins[0].Bytes) {
		t.Errorf("the list is not what a runtime would make of the plugin: %s", made)
	}
}

func TestConvertedName(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/d/10-a.conf", "/d/10-a-tailgate.conflist"},
		{"/d/10-a.b.json", "/d/10-a.b-tailgate.conflist"},
		{"/d/.conf", "/d/-tailgate.conflist"},
	} {
		got := convertedPath(tt.path)
		if got != tt.want || strings.Compare(got, tt.path) >= 0 {
			t.Errorf("the list of %s is %s, want %s before it", tt.path, got, tt.want)
		}
	}
}
