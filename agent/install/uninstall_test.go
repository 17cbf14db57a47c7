package install

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What others did since to a file with the entry in it stays when the entry goes.
func TestUninstallAfterOthers(t *testing.T) {
	n := newNode(t, map[string]string{"10-flannel.conflist": sample(t, "flannel.conflist")})
	i := n.installer(t)
	i.look()
	var conf map[string]any
	if err := json.Unmarshal([]byte(n.read(t, "10-flannel.conflist")), &conf); err != nil {
		t.Fatal(err)
	}
	plugins := conf["plugins"].([]any)
	conf["plugins"] = append(plugins, map[string]any{"type": "istio-cni", "log_level": "info"})
	anew, err := json.MarshalIndent(conf, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, "10-flannel.conflist", string(anew))
	i.look()
	if diff := cmp.Diff(string(anew), n.read(t, "10-flannel.conflist")); diff != "" {
		t.Errorf("the entry is there, but the file was changed (-want +got):\n%s", diff)
	}
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	conf["plugins"] = slices.Concat(plugins[:2], []any{map[string]any{"type": "istio-cni", "log_level": "info"}})
	want, err := json.MarshalIndent(conf, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), n.read(t, "10-flannel.conflist")); diff != "" {
		t.Errorf("uninstalled (-want +got):\n%s", diff)
	}
}

// Uninstall takes the entry from files that the runtime no longer uses, says of which it could not, and leaves the binary
// for as long as one refers to it.
func TestUninstallAll(t *testing.T) {
	n := newNode(t, map[string]string{"10-a.conflist": sample(t, "flannel.conflist")})
	i := n.installer(t)
	i.look()
	n.write(t, "20-b.conflist", n.read(t, "10-a.conflist"))
	n.write(t, "30-c.conflist", n.read(t, "10-a.conflist")[1:])
	want := "uninstall CNI plugin: " + n.path("30-c.conflist") + " has the entry of tailgate-cni still, but: there is more text after the end of the object, at byte 9; take it out by hand"
	if err := i.Uninstall(); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
	for _, name := range []string{"10-a.conflist", "20-b.conflist"} {
		if diff := cmp.Diff(sample(t, "flannel.conflist"), n.read(t, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if !i.binaryUsable() {
		t.Error("the binary is gone")
	}
	if err := os.Remove(n.path("30-c.conflist")); err != nil {
		t.Fatal(err)
	}
	if err := i.Uninstall(); err != nil || i.binaryUsable() {
		t.Errorf("error %v, binary there: %v", err, i.binaryUsable())
	}
	if diff := cmp.Diff(Status{State: Ready, Reason: Uninstalled, Message: "tailgate-cni is taken out", Patches: 1}, i.Status()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestModes(t *testing.T) {
	kindnet := sample(t, "kindnet.conflist")
	n := newNode(t, map[string]string{"10-kindnet.conflist": kindnet})
	with := func(m Mode) func(*Options) { return func(o *Options) { o.Mode = m } }
	for _, step := range []struct {
		mode            Mode
		keep            bool
		chained, binary bool
		message         string
	}{
		{Binary, false, false, true, "the binary is in " + n.bin + ", and no configuration of ours refers to it"},
		{Chained, false, true, true, "tailgate-cni is in " + n.path("10-kindnet.conflist")},
		{Binary, false, false, true, "the binary is in " + n.bin + ", and no configuration of ours refers to it"},
		{Chained, false, true, true, "tailgate-cni is in " + n.path("10-kindnet.conflist")},
		{Disabled, true, false, true, "no configuration refers to tailgate-cni, as cni.mode disabled wants it"},
		{Disabled, false, false, false, "no configuration refers to tailgate-cni, as cni.mode disabled wants it"},
	} {
		i := n.installer(t, with(step.mode), func(o *Options) { o.KeepBinary = step.keep })
		i.look()
		if s := i.Status(); s.State != Ready || s.Reason != Installed || s.Message != step.message {
			t.Errorf("%s: status %+v", step.mode, s)
		}
		chained := n.read(t, "10-kindnet.conflist") != kindnet
		if chained != step.chained || i.binaryUsable() != step.binary {
			t.Errorf("%s: chained %v, binary %v", step.mode, chained, i.binaryUsable())
		}
	}
}

// What a person chained stays, in every mode, and is not chained twice.
func TestByHand(t *testing.T) {
	text := `{"name":"n","plugins":[{"type":"a"},` + byHand + `]}`
	n := newNode(t, map[string]string{"10-a.conflist": text})
	for _, mode := range []Mode{Chained, Binary, Disabled} {
		i := n.installer(t, func(o *Options) { o.Mode = mode })
		i.look()
		if s := i.Status(); s.State != Ready {
			t.Errorf("%s: status %+v", mode, s)
		}
		if diff := cmp.Diff(text, n.read(t, "10-a.conflist")); diff != "" {
			t.Errorf("%s: it was changed (-want +got):\n%s", mode, diff)
		}
	}
}

// A file of others may have any words in it.
func TestOurNameElsewhere(t *testing.T) {
	const text = `{"name":"n","type":"b","note":"see tailgate-agent"}`
	n := newNode(t, map[string]string{"10-a.conflist": sample(t, "kindnet.conflist"), "20-b.conf": text})
	i := n.installer(t)
	i.look()
	if s := i.Status(); s.State != Ready {
		t.Errorf("status %+v", s)
	}
	if err := i.Uninstall(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(text, n.read(t, "20-b.conf")); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}
